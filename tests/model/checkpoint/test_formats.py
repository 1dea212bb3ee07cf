"""Stored formats: tags, shapes of packed matrices and scales, encoding whole and decoding in runs of rows."""

from __future__ import annotations

import pytest
import torch

from octavo.config.counts import parameter_shapes, stored_tensors
from octavo.config.presets import flash
from octavo.model.checkpoint import formats, names


def test_shapes_equal_the_table_of_the_release() -> None:
    shapes, table = parameter_shapes(flash()), stored_tensors(flash())
    for name in ("layers.5.attn.wo_a.weight", "layers.5.ffn.experts.7.w2.weight", "layers.5.ffn.gate.weight"):
        tag, stored = table[name]
        assert formats.stored_shape(tag, shapes[name]) == stored
        if formats.is_quantised(tag):
            assert formats.scale_shape(tag, shapes[name]) == table[names.scale_name(name)][1]
    assert formats.scale_shape("F8_E4M3", (5, 300, 129)) == (5, 3, 2)
    assert formats.scale_shape("I8", (5, 300, 96)) == (5, 300, 3)
    assert formats.tensor_bytes("I8", (3, 16)) == 48


@pytest.mark.parametrize("tag", ["F8_E4M3", "I8"])
def test_decoding_in_runs_equals_decoding_whole(tag: str) -> None:
    w = torch.randn(300, 160) * torch.logspace(-2, 2, 300)[:, None]
    raw, scale = formats.encode(w, tag)
    assert (raw.dtype, tuple(raw.shape)) == (formats.DTYPES[tag], formats.stored_shape(tag, (300, 160)))
    assert (scale.dtype, tuple(scale.shape)) == (torch.float8_e8m0fnu, formats.scale_shape(tag, (300, 160)))
    factors = formats.scale_factors(scale)
    whole = formats.decode_rows(raw, factors, 0)
    runs = [formats.decode_rows(raw[row : row + 37], factors, row) for row in range(0, 300, 37)]
    assert torch.equal(torch.cat(runs), whole)
    assert float((whole - w).abs().max() / w.abs().max()) < (0.05 if tag == "F8_E4M3" else 0.2)


def test_plain_values_are_only_cast() -> None:
    w = torch.randn(4, 6)
    (stored,) = formats.encode(w, "BF16")
    assert stored.dtype == torch.bfloat16
    assert formats.decode_rows(stored, None, 0) is stored


def test_what_does_not_fit_says_why() -> None:
    assert formats.fits("I8", (4, 40)) == "FP4 needs a width that is a multiple of 32, not 40"
    assert formats.fits("F8_E4M3", (40,)) == "F8_E4M3 needs a matrix"
    assert formats.fits("F8_E4M3", (4, 40)) is None
    assert formats.fits("BF16", (3,)) is None
