"""Rows of the cache as bytes: encode values for storage, decode them for use.

Covers: the five row formats of `octavo.cache.layout` on uint8 tensors. Does not cover: their sizes (layout) or the
number formats themselves (`octavo.kernels.quant`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.cache.layout import RowFormat
from octavo.kernels import quant

_TYPES = {RowFormat.FP64: torch.float64, RowFormat.FP32: torch.float32, RowFormat.BF16: torch.bfloat16}
PLAIN = tuple(_TYPES)  # formats whose bytes are the values themselves


def encode(values: Tensor, *, format: RowFormat, kind: str, rope_dims: int) -> Tensor:
    """[n, width] of any floating dtype -> [n, row_bytes] uint8."""
    if format in _TYPES:
        return values.to(_TYPES[format]).contiguous().view(torch.uint8)
    if kind == "index":
        wide = values.float()
        return quant.encode_rows_fp4(wide) if format is RowFormat.FP4 else quant.encode_index_fp8(wide)
    encoded = quant.encode_main_fp4 if format is RowFormat.FP4 else quant.encode_rows_fp8
    return encoded(values.float(), rope_dims)


def decode(rows: Tensor, *, format: RowFormat, kind: str, width: int, rope_dims: int) -> Tensor:
    """[n, row_bytes] uint8 -> [n, width]; plain formats are views of the same memory, FP8 and FP4 come out as FP32."""
    if format in _TYPES:
        return rows.view(_TYPES[format])
    if kind == "index":
        return quant.decode_rows_fp4(rows, width) if format is RowFormat.FP4 else quant.decode_index_fp8(rows, width)
    decoded = quant.decode_main_fp4 if format is RowFormat.FP4 else quant.decode_rows_fp8
    return decoded(rows, width, rope_dims)
