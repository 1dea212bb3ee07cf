"""Rows survive storage as their format promises: exactly, or within its rounding."""

from __future__ import annotations

import pytest
import torch

from octavo.cache import codec
from octavo.cache.layout import RowFormat, index_row_bytes, main_row_bytes

CASES = [(kind, f) for kind in ("main", "index") for f in RowFormat]
# Largest error relative to the largest value of a row: half a step of the format's mantissa, scales rounded up.
BOUND = {
    RowFormat.FP64: 0.0, RowFormat.FP32: 0.0, RowFormat.BF16: 2**-8, RowFormat.FP8: 2**-4, RowFormat.FP4: 2**-2,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "format"), CASES)
def test_round_trip(kind: str, format: RowFormat) -> None:
    width, rope = (160, 32) if kind == "main" else (64, 32)
    values = torch.randn(50, width)
    rows = codec.encode(values, format=format, kind=kind, rope_dims=rope)
    size = main_row_bytes(format, width=width, rope=rope) if kind == "main" else index_row_bytes(format, width=width)
    assert (rows.dtype, tuple(rows.shape)) == (torch.uint8, (50, size))
    back = codec.decode(rows, format=format, kind=kind, width=width, rope_dims=rope)
    error = (back.float() - values).abs().amax(1) / values.abs().amax(1)
    assert float(error.max()) <= BOUND[format]
    assert (float(error.max()) > 0) == (format not in (RowFormat.FP64, RowFormat.FP32))


@pytest.mark.parametrize(("kind", "format"), CASES)
def test_second_storage_changes_nothing(kind: str, format: RowFormat) -> None:
    width, rope = (96, 32) if kind == "main" else (64, 32)

    def encode(values: torch.Tensor) -> torch.Tensor:
        return codec.encode(values, format=format, kind=kind, rope_dims=rope)

    def decode(rows: torch.Tensor) -> torch.Tensor:
        return codec.decode(rows, format=format, kind=kind, width=width, rope_dims=rope)

    once = decode(encode(torch.randn(20, width)))
    torch.testing.assert_close(decode(encode(once)).float(), once.float(), rtol=2e-7, atol=0)


@pytest.mark.parametrize(("kind", "format"), CASES)
def test_no_rows(kind: str, format: RowFormat) -> None:
    width, rope = (96, 32) if kind == "main" else (64, 32)
    rows = codec.encode(torch.empty(0, width), format=format, kind=kind, rope_dims=rope)
    assert codec.decode(rows, format=format, kind=kind, width=width, rope_dims=rope).shape == (0, width)


@pytest.mark.parametrize("format", codec.PLAIN)
def test_plain_formats_are_views(format: RowFormat) -> None:
    rows = codec.encode(torch.randn(4, 32), format=format, kind="main", rope_dims=16)
    decoded = codec.decode(rows, format=format, kind="main", width=32, rope_dims=16)
    assert decoded.data_ptr() == rows.data_ptr()


def test_fp64_rows_keep_every_bit_of_fp64() -> None:
    values = torch.randn(4, 32, dtype=torch.float64)
    rows = codec.encode(values, format=RowFormat.FP64, kind="main", rope_dims=16)
    assert torch.equal(codec.decode(rows, format=RowFormat.FP64, kind="main", width=32, rope_dims=16), values)
