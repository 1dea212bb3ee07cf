"""The compressor: every entry by hand (pool, norm, position, transform), when it appears, what rounding leaves alone.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.cache.view import Group, View
from octavo.config.model import ModelConfig
from octavo.kernels.hadamard import hadamard
from octavo.kernels.quant import simulate_fp4, simulate_fp8
from octavo.kernels.rmsnorm import rmsnorm
from octavo.kernels.rope import rotate
from octavo.model.compressor import Compressor, round_main
from octavo.model.rotary import Rotary
from tests.support.tiny import tiny_config

CASES = [(1, "main"), (1, "index"), (2, "main")]


def make(config: ModelConfig, layer: int, kind: str) -> Compressor:
    compressor = Compressor(config, layer=layer, kind=kind, width=32).double()
    for name, parameter in compressor.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if name == "norm.weight" else 0.0, std=0.5)
    return compressor.requires_grad_(False)


def group_of(length: int) -> Group:
    return View.packed([0, length]).groups[0]


def entries(compressor: Compressor, x: Tensor, config: ModelConfig) -> Tensor:
    rows = compressor.entries(compressor.project(x).unsqueeze(0), group_of(len(x)), Rotary(config), x.dtype)
    return rows.tile(0, rows.length)[0]


def by_hand(compressor: Compressor, x: Tensor, config: ModelConfig) -> Tensor:
    """Entry by entry: the group's tokens with their own half, those of the group before with the other half."""
    values, scores = x @ compressor.wkv.weight.T, x @ compressor.wgate.weight.T
    ratio, width, made = compressor.ratio, compressor.width, []
    for w in range(len(x) // ratio):
        parts = []
        if compressor.overlap and w > 0:
            parts += [(t, slice(0, width)) for t in range(ratio * (w - 1), ratio * w)]
        parts += [(t, slice(-width, None)) for t in range(ratio * w, ratio * (w + 1))]
        gate = torch.stack([scores[t, half] + compressor.ape[t % ratio, half] for t, half in parts]).softmax(0)
        pooled = (gate * torch.stack([values[t, half] for t, half in parts])).sum(0)
        normed = rmsnorm(pooled, compressor.norm.weight, config.rms_norm_eps)
        cos, sin = Rotary(config).table(torch.tensor(ratio * w), ratio, torch.float64)
        turned = rotate(normed, cos, sin)
        made.append(hadamard(turned) if compressor.kind == "index" else turned)
    return torch.stack(made)


@pytest.mark.parametrize(("layer", "kind"), CASES)
def test_entries_by_hand(layer: int, kind: str) -> None:
    config = tiny_config()
    compressor, x = make(config, layer, kind), torch.randn(389, 32, dtype=torch.float64)
    made = entries(compressor, x, config)
    assert made.shape == (389 // compressor.ratio, 32)
    torch.testing.assert_close(made, by_hand(compressor, x, config), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("layer", "kind"), CASES)
def test_an_entry_appears_with_the_last_token_of_its_group(layer: int, kind: str) -> None:
    config = tiny_config()
    compressor = make(config, layer, kind)
    x = torch.randn(3 * compressor.ratio, 32, dtype=torch.float64)
    counts = [len(entries(compressor, x[:n], config)) for n in range(1, len(x) + 1)]
    assert counts == [n // compressor.ratio for n in range(1, len(x) + 1)]


def test_rows_of_a_batch_are_compressed_apart() -> None:
    config = tiny_config()
    compressor, x = make(config, 1, "main"), torch.randn(2, 22, 32, dtype=torch.float64)
    view = View.packed([0, 22, 44])
    projected = compressor.project(x.flatten(0, 1)).unflatten(0, (2, 22))
    both = compressor.entries(projected, view.groups[0], Rotary(config), x.dtype).tile(0, 5)
    for b in range(2):
        torch.testing.assert_close(both[b], entries(compressor, x[b], config), rtol=0, atol=1e-13)


def test_projection_is_at_least_single_precision() -> None:
    compressor = make(tiny_config(), 1, "main").float()
    x = torch.randn(5, 32)
    assert torch.equal(compressor.project(x.bfloat16()), compressor.project(x.bfloat16().float()))
    assert compressor.project(x.double()).dtype == torch.float64


@pytest.mark.parametrize(("layer", "kind"), CASES[:2])
def test_simulation_rounds_the_finished_entry(layer: int, kind: str) -> None:
    plain, rounded = tiny_config(), tiny_config(quant_sim=True)
    compressor, x = make(plain, layer, kind).float(), torch.randn(40, 32)
    made = entries(compressor, x, plain)
    compressor.simulate = True
    expected = simulate_fp4(made) if kind == "index" else round_main(made, 16)
    assert torch.equal(entries(compressor, x, rounded), expected)
    assert not torch.equal(expected, made)


def test_rounding_leaves_the_rotary_channels_alone() -> None:
    rows = torch.randn(7, 144)
    out = round_main(rows, 16)
    assert torch.equal(out[:, 128:], rows[:, 128:])
    assert torch.equal(out[:, :128], simulate_fp8(rows[:, :128], group=64))
