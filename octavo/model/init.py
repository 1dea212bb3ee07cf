"""Initial values of every parameter.

Covers: the table below, by parameter name. Does not cover: loading (`checkpoint`).

    embedding                         normal, std 1: the streams start with unit RMS
    head                              0: the first loss is ln V
    w_in matrices (wq_*, wkv, w1, w3, wo_a, projections)   truncated normal, std fan_in^-1/2
    wo_b, w2                          0: every block starts as the identity on its streams
    compressor gate, router, indexer head weights          std 0.02: near-mean pooling, near-equal scores
    position bias of compressors      0; ratio 4: +1 on the own group's half, which is preferred at first
    attention sink                    0: one unit of mass in the denominator
    hc fn                             std 0.02; scale 0.01
    hc base                           read: +1 for stream (layer mod M), -1 else; write: 0; mixing: 4 on the diagonal
    hc head base                      0; norms 1; selection bias 0
    Engram                            tables std 0.02, projections fan_in^-1/2, convolution 0
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.model.transformer import Transformer

_ZERO = ("head.weight", "wo_b.weight", ".w2", ".w2.weight", "attn_sink", "hc_head_base", "conv.weight")
_SMALL = ("wgate.weight", "gate.weight", "weights_proj.weight", "_fn", "table.weight")
_ONE = ("norm.weight",)


@torch.no_grad()
def init_weights(model: Transformer, *, seed: int) -> None:
    """Fill a materialised model; the same seed gives the same values on CPU whatever the machine."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(_value(name, parameter, model.config, generator))
    for name, buffer in model.named_buffers():
        if name.endswith("tid2eid"):
            buffer.copy_(hash_table(model.config, layer=int(name.split(".")[1]), seed=seed))
        elif name.endswith("gate.bias"):
            buffer.zero_()


def _value(name: str, parameter: nn.Parameter, config: ModelConfig, generator: torch.Generator) -> Tensor:
    shape = parameter.shape
    if name == "embed.weight":
        return torch.randn(shape, generator=generator)
    if name.endswith(_ONE) or name.endswith("_norm.weight"):
        return torch.ones(shape)
    if name.endswith(_ZERO):
        return torch.zeros(shape)
    if name.endswith("ape"):
        return _position_bias(shape)
    if name.endswith("_scale"):
        return torch.full(shape, 0.01)
    if name.endswith("_base"):
        return _hyper_base(int(name.split(".")[1]), config.hc_mult)
    if name.endswith(_SMALL):
        return torch.randn(shape, generator=generator) * 0.02
    draw = torch.empty(shape)
    std = shape[-1] ** -0.5
    return nn.init.trunc_normal_(draw, std=std, a=-3 * std, b=3 * std, generator=generator)


def _position_bias(shape: torch.Size) -> Tensor:
    bias = torch.zeros(shape)
    if shape[0] == CSA_RATIO:
        bias[:, shape[1] // 2 :] = 1.0
    return bias


def _hyper_base(layer: int, M: int) -> Tensor:
    read = torch.full((M,), -1.0)
    read[layer % M] = 1.0
    return torch.cat((read, torch.zeros(M), (4.0 * torch.eye(M)).flatten()))


def hash_table(config: ModelConfig, *, layer: int, seed: int) -> Tensor:
    """Experts by token id for a hash-routed layer, [V, A]: distinct experts a row, every expert about equally often."""
    generator = torch.Generator().manual_seed(seed * 1000 + layer)
    X, A = config.n_routed_experts, config.num_experts_per_tok
    first = torch.randperm(config.vocab_size, generator=generator) % X
    step = torch.randint(1, max(2, X // A), (config.vocab_size,), generator=generator)
    return (first.unsqueeze(1) + step.unsqueeze(1) * torch.arange(A)) % X
