"""Initial values: the table, what the first pass looks like, repeatability, hash tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from octavo.cache.view import View
from octavo.config.model import ModelConfig
from octavo.config.presets import xs
from octavo.kernels import hyper
from octavo.model.block import Block
from octavo.model.init import hash_table, init_weights
from octavo.model.transformer import Transformer
from tests.support.tiny import tiny_config, tiny_engram

FULL = tiny_config(num_nextn_predict_layers=1, num_hash_layers=2, engram=tiny_engram("v1"))


def fresh(config: ModelConfig, seed: int = 0) -> Transformer:
    model = Transformer(config)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.fill_(float("nan"))
    init_weights(model, seed=seed)
    return model


def weights(model: Transformer) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def test_nothing_is_left_unset() -> None:
    for name, tensor in weights(fresh(FULL)).items():
        assert torch.isfinite(tensor.double()).all(), name


def test_same_seed_same_values() -> None:
    one, same, other = (weights(fresh(FULL, seed)) for seed in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embed.weight"], other["embed.weight"])
    assert not torch.equal(one["layers.0.ffn.gate.tid2eid"], other["layers.0.ffn.gate.tid2eid"])


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("embed.weight", 1.0),
        ("layers.1.attn.wq_a.weight", 256**-0.5),
        ("layers.1.attn.wq_b.weight", 128**-0.5),
        ("layers.1.attn.wkv.weight", 256**-0.5),
        ("layers.1.attn.wo_a.weight", 256**-0.5),
        ("layers.1.attn.compressor.wkv.weight", 256**-0.5),
        ("layers.1.attn.indexer.wq_b.weight", 128**-0.5),
        ("layers.1.ffn.experts.w1", 256**-0.5),
        ("layers.1.ffn.experts.w3", 256**-0.5),
        ("layers.1.ffn.shared_experts.w1.weight", 256**-0.5),
        ("layers.1.engram.wkv.weight", 128**-0.5),
        ("layers.1.attn.compressor.wgate.weight", 0.02),
        ("layers.1.attn.indexer.weights_proj.weight", 0.02),
        ("layers.1.ffn.gate.weight", 0.02),
        ("layers.1.hc_attn_fn", 0.02),
        ("layers.1.engram.table.weight", 0.02),
        ("hc_head_fn", 0.02),
    ],
)
def test_spread(xs_weights: dict[str, Tensor], name: str, std: float) -> None:
    value = xs_weights[name]
    assert value.std().item() == pytest.approx(std, rel=0.06)
    assert abs(value.mean().item()) < 0.1 * std
    if std < 1.0 and std != 0.02:
        assert value.abs().max() <= 3 * std


@pytest.fixture(scope="module")
def xs_weights() -> dict[str, Tensor]:
    return weights(fresh(xs()))


def test_exact_values() -> None:
    values = weights(fresh(FULL))
    zero = ("head.weight", "wo_b.weight", ".w2", "w2.weight", "attn_sink", "hc_head_base", "gate.bias", "conv.weight")
    for name, value in values.items():
        if name.endswith("norm.weight"):
            assert torch.equal(value, torch.ones_like(value)), name
        elif name.endswith("_scale"):
            assert torch.equal(value, torch.full_like(value, 0.01)), name
        elif name.endswith(zero):
            assert not value.any(), name
    assert not values["layers.2.attn.compressor.ape"].any()
    for kind in ("", ".indexer"):
        ape = values[f"layers.1.attn{kind}.compressor.ape"]
        assert not ape[:, :32].any()
        assert torch.equal(ape[:, 32:], torch.ones(4, 32))


def test_each_layer_reads_a_stream_of_its_own_first() -> None:
    values = weights(fresh(FULL))
    for layer in range(5):
        base = values[f"layers.{layer}.hc_attn_base"]
        assert base[:4].tolist() == [1.0 if j == layer % 4 else -1.0 for j in range(4)]
        assert not base[4:8].any()
        assert torch.equal(base[8:].view(4, 4), 4 * torch.eye(4))
        assert torch.equal(base, values[f"layers.{layer}.hc_ffn_base"])


@pytest.mark.parametrize("config", [FULL, xs()], ids=["tiny", "xs"])
def test_first_pass(config: ModelConfig) -> None:
    model, T = fresh(config), 140
    ids = torch.randint(0, config.vocab_size, (T,))
    outputs: list[Tensor] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _m, _a, output: outputs.append(output[0]))
    with torch.no_grad():
        out = model(ids, View.packed([0, T]))
        loss = torch.nn.functional.cross_entropy(model.logits(out.streams), ids.roll(-1))
    for streams in outputs:
        rms = streams.square().mean(-1).sqrt()
        assert 0.5 < float(rms.mean()) < 2.0
        assert float(rms.min()) > 0.4
        assert float(rms.max()) < 2.5
    assert loss.item() == pytest.approx(math.log(config.vocab_size), abs=0.1)


def test_mixing_starts_near_the_identity() -> None:
    model = fresh(xs())
    block = model.layers[2]
    assert isinstance(block, Block)
    streams = torch.randn(50, 4, 256)
    with torch.no_grad():
        _, post, comb = hyper.mix(
            streams, block.hc_attn_fn, block.hc_attn_base, block.hc_attn_scale, iters=20, eps=1e-6, norm_eps=1e-6
        )
    assert (comb.sum(1) - 1).abs().max() < 1e-3
    assert (comb.sum(2) - 1).abs().max() < 1e-3
    assert comb.diagonal(dim1=1, dim2=2).mean().item() == pytest.approx(0.95, abs=0.01)
    assert (post - 1).abs().max() < 0.1


@pytest.mark.parametrize(("X", "A"), [(8, 2), (6, 2), (5, 3), (4, 4)])
def test_hash_tables_name_distinct_experts_about_equally_often(X: int, A: int) -> None:
    config = tiny_config(vocab_size=4096, n_routed_experts=X, num_experts_per_tok=A)
    table = hash_table(config, layer=0, seed=0)
    assert (table.shape, table.dtype) == ((4096, A), torch.int64)
    assert int(table.min()) >= 0
    assert int(table.max()) < X
    assert (table.sort(1).values.diff(dim=1) > 0).all()
    counts = table.flatten().bincount(minlength=X).double()
    assert float((counts / counts.mean() - 1).abs().max()) < 0.1
    assert not torch.equal(table, hash_table(config, layer=1, seed=0))
