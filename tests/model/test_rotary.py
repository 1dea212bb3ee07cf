"""Rotary tables by kind of layer: base, YaRN, precision, and reuse of the frequencies."""

from __future__ import annotations

import pytest
import torch

from octavo.config.presets import flash, xs
from octavo.kernels.rope import inverse_frequencies, rope_table
from octavo.model.rotary import Rotary

POSITIONS = torch.tensor([0, 1, 127, 1_048_575])


@pytest.mark.parametrize("ratio", [0, 4, 128])
def test_official_tables(ratio: int) -> None:
    if ratio == 0:
        frequencies = inverse_frequencies(base=10000.0, dims=64)
    else:
        frequencies = inverse_frequencies(base=160000.0, dims=64, factor=16.0, original=65536)
    expected = rope_table(POSITIONS, frequencies)
    for one, other in zip(Rotary(flash()).table(POSITIONS, ratio, torch.float32), expected, strict=True):
        assert torch.equal(one, other)


def test_without_yarn_the_compressed_layers_change_their_base_only() -> None:
    cos, _ = Rotary(xs()).table(POSITIONS, 4, torch.float32)
    assert torch.equal(cos, rope_table(POSITIONS, inverse_frequencies(base=160000.0, dims=32))[0])


def test_tables_are_single_precision_unless_the_model_is_double() -> None:
    rotary = Rotary(xs())
    assert rotary.table(POSITIONS, 0, torch.bfloat16)[0].dtype == torch.float32
    assert rotary.table(POSITIONS, 0, torch.float64)[1].dtype == torch.float64


def test_any_shape_of_positions_and_none() -> None:
    rotary = Rotary(xs())
    assert rotary.table(torch.arange(6).view(2, 3), 4, torch.float32)[0].shape == (2, 3, 16)
    assert rotary.table(torch.arange(0), 4, torch.float32)[0].shape == (0, 16)


def test_amplitude_is_one() -> None:
    for ratio in (0, 4):
        cos, sin = Rotary(flash()).table(torch.arange(50) * 20_971, ratio, torch.float32)
        torch.testing.assert_close(cos.square() + sin.square(), torch.ones(50, 32), rtol=0, atol=1e-6)
