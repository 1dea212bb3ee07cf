"""One block: sublayers between reads and writes of the streams, Engram first, and its report."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls, View
from octavo.config.model import ModelConfig
from octavo.kernels import hyper
from octavo.model.block import Block
from octavo.model.rotary import Rotary
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

CONFIG = tiny_config(engram=tiny_engram())
HYPER = {"iters": 20, "eps": 1e-6, "norm_eps": 1e-6}


def world(config: ModelConfig, layer: int, T: int = 20) -> tuple[Block, Tensor, Tensor, View]:
    block = build_model(config, random_tensors(config, 0), dtype=torch.float64).layers[layer]
    assert isinstance(block, Block)
    streams = torch.randn(T, config.hc_mult, config.hidden_size, dtype=torch.float64)
    return block, streams, torch.randint(0, config.vocab_size, (T,)), View.packed([0, T])


@pytest.mark.parametrize("layer", range(5))
def test_two_sublayers_and_the_memory(layer: int) -> None:
    block, streams, tokens, view = world(CONFIG, layer)
    rotary, compressed = Rotary(CONFIG), torch.arange(CONFIG.vocab_size)
    out, report = block(streams, tokens, view, rotary, compressed)
    h = block.engram(streams, tokens, view, compressed) if layer in (1, 3) else streams
    pre, post, comb = hyper.mix(h, block.hc_attn_fn, block.hc_attn_base, block.hc_attn_scale, **HYPER)
    table = rotary.table(view.positions, CONFIG.layer_ratios[layer], h.dtype)
    h = hyper.write(h, block.attn(block.attn_norm(hyper.read(h, pre)), view, rotary, table).out, post, comb)
    pre, post, comb = hyper.mix(h, block.hc_ffn_fn, block.hc_ffn_base, block.hc_ffn_scale, **HYPER)
    y, load = block.ffn(block.ffn_norm(hyper.read(h, pre)), tokens)
    torch.testing.assert_close(out, hyper.write(h, y, post, comb), rtol=0, atol=1e-12)
    assert load is not None
    assert (report.index_loss, report.mass, report.load) == (None, (), None)


def test_without_a_vocabulary_map_the_memory_is_skipped() -> None:
    block, streams, tokens, view = world(CONFIG, 1)
    rotary = Rotary(CONFIG)
    with_memory, _ = block(streams, tokens, view, rotary, torch.arange(CONFIG.vocab_size))
    without, _ = block(streams, tokens, view, rotary, None)
    assert (with_memory - without).abs().max() > 1e-2


def test_silent_sublayers_only_mix_the_streams() -> None:
    block, streams, tokens, view = world(tiny_config(), 2)
    for name, parameter in block.named_parameters():
        if name.endswith(("wo_b.weight", ".w2", ".w2.weight")):
            parameter.zero_()
    out, _ = block(streams, tokens, view, Rotary(tiny_config()), None)
    for part in ("attn", "ffn"):
        fn, base, scale = (getattr(block, f"hc_{part}_{kind}") for kind in ("fn", "base", "scale"))
        comb = hyper.mix(streams, fn, base, scale, **HYPER)[2]
        streams = torch.einsum("tjk,tjd->tkd", comb, streams)
    torch.testing.assert_close(out, streams, rtol=0, atol=1e-12)


def test_report_follows_the_controls() -> None:
    block, streams, tokens, _ = world(tiny_config(), 1, T=60)
    view = View.packed([0, 60], controls=Controls(mass=True, index_loss=True, load=True))
    _, report = block(streams, tokens, view, Rotary(tiny_config()), None)
    assert report.index_loss is not None
    assert [mass.ratio for mass in report.mass] == [4]
    assert report.load is not None
    assert float(report.load.counts.sum()) == 120


def test_first_layers_are_routed_by_token() -> None:
    model = build_model(tiny_config(num_hash_layers=2), random_tensors(tiny_config(num_hash_layers=2), 0))
    assert [layer.ffn.gate.hashed for layer in model.layers if isinstance(layer, Block)] == [True] * 2 + [False] * 3
