"""A loaded model with INT8 weights: what is rounded, and the layers that compute with it.

Covers: `to_int8` for attention (wq_a, wq_b, wkv, wo_a, wo_b), routed and shared experts, and the head, of draft stages
too. Router, compressors, indexer, streams, norms, Engram and the embedding stay as they are. Does not cover: storage
(checkpoints hold FP8, FP4 or wider), GPUs, training, the rounding itself (`octavo.kernels.int8_linear`).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from octavo.cache.view import Routed
from octavo.config.errors import UsageError
from octavo.kernels.int8_layer import attention_in, attention_out, fits, int8_experts, int8_mixture
from octavo.kernels.int8_linear import Int8Weight, round_weight
from octavo.kernels.projections import Inputs
from octavo.kernels.route import Routing
from octavo.model.attention import Attention
from octavo.model.block import Block
from octavo.model.linear import pack_of
from octavo.model.moe import Load, MoE
from octavo.model.rotary import Table
from octavo.model.transformer import Transformer


def to_int8(model: Transformer) -> None:
    """Round the weights named above in place, one layer after the other. The model must be in FP32, on the CPU, without
    simulated rounding of activations; UsageError otherwise."""
    weight = model.embed.weight
    if weight.dtype != torch.float32 or not weight.is_cpu:
        found = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
        raise UsageError(f"weights int8 need float32 arithmetic on the cpu; this model is {found}")
    if model.config.quant_sim:
        raise UsageError("weights int8 round activations themselves; the config's quant_sim must be false")
    for block in (*model.layers, *(model.mtp if hasattr(model, "mtp") else ())):
        assert isinstance(block, Block)
        block.attn, block.ffn = Int8Attention(block.attn), Int8MoE(block.ffn)
    _hold(model.head, "weight", round_weight(model.head.weight))


def _hold(holder: nn.Module, name: str, weight: Int8Weight) -> None:
    """Give `holder` this weight in the place of a parameter of that name; codes and scales become part of its state."""
    holder._parameters.pop(name, None)
    holder.register_buffer(f"{name}_codes", weight.codes)
    holder.register_buffer(f"{name}_scale", weight.scale)
    holder.__dict__[name] = weight


def _int8(holder: nn.Module, name: str = "weight") -> Int8Weight:
    return cast(Int8Weight, getattr(holder, name))


class Int8Attention(Attention):
    """`Attention` over the parts of `given`, whose five large maps it rounds."""

    def __init__(self, given: Attention) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(given.__dict__)
        self._pack_in = self._pack_out = None
        self._small = pack_of(self.q_norm, self.kv_norm, *self._maps_beside())  # in the order of `attention_in`
        for linear in (self.wq_a, self.wq_b, self.wkv, self.wo_a, self.wo_b):
            _hold(linear, "weight", round_weight(linear.weight))

    def _project_in(self, x: Tensor, table: Table) -> Inputs:
        if not fits(x):
            return super()._project_in(x, table)
        return attention_in(
            x, (_int8(self.wq_a), _int8(self.wq_b), _int8(self.wkv)), self._small, *table,
            heads=self.heads, index_heads=self.index_heads, eps=self.eps,
            rest=lambda latent: self._project_beside(x, latent, table),
        )  # fmt: skip

    def _project_out(self, o: Tensor, table: Table) -> Tensor:
        if not fits(o):
            return super()._project_out(o, table)
        return attention_out(o, _int8(self.wo_a), _int8(self.wo_b), *table)


class Int8Experts(nn.Module):
    """Rounded experts: w13 [X, 2F, D], gate rows before up rows, and w2 [X, D, F]."""

    def __init__(self, w1: Tensor, w3: Tensor, w2: Tensor) -> None:
        super().__init__()
        _hold(self, "w13", round_weight(torch.cat((w1, w3), dim=1)))
        _hold(self, "w2", round_weight(w2))

    @property
    def pair(self) -> tuple[Int8Weight, Int8Weight]:
        """Both weights."""
        return _int8(self, "w13"), _int8(self, "w2")


class Int8MoE(MoE):
    """`MoE` with the gate of `given` and its experts rounded."""

    def __init__(self, given: MoE) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(given.__dict__)
        self._pack = None
        routed, shared = given.experts, given.shared_experts
        del self._modules["experts"], self._modules["shared_experts"]
        self.routed = Int8Experts(routed.w1, routed.w3, routed.w2)
        self.shared = Int8Experts(*(part.weight.unsqueeze(0) for part in (shared.w1, shared.w3, shared.w2)))

    def forward(
        self, x: Tensor, tokens: Tensor, *, load: bool = True, routed: Routed | None = None
    ) -> tuple[Tensor, Load | None]:
        """As `MoE.forward`."""
        if load or routed is not None:
            return super().forward(x, tokens, load=load, routed=routed)
        table_rows, bias = self.gate.given(tokens)
        out = int8_mixture(
            x, self.gate.weight, self.routed.pair, self.shared.pair, top=self.gate.top, scale=self.gate.scale,
            normalise=self.gate.normalise, limit=self.limit, bias=bias, table_rows=table_rows,
            plain=lambda: self._routed(x, self.gate(x, tokens)),
        )  # fmt: skip
        return out, None

    def _routed(self, x: Tensor, routing: Routing) -> Tensor:
        return int8_experts(
            x, self.routed.pair, self.shared.pair, chosen=routing.experts, weights=routing.weights, limit=self.limit
        )
