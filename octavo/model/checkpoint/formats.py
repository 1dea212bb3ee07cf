"""How numbers are stored. Covers: safetensors tags and their dtypes, the stored and the scale shape of a matrix,
encoding of whole tensors, decoding of runs of rows. Does not cover: files (`shard.py`), rounding
(`octavo.kernels.quant`).

    tag      meaning                                       scale
    F32 BF16 F16 F64   values                              none
    F8_E4M3  FP8 matrix [out, in]                          [ceil(out/128), ceil(in/128)], F8_E8M0, U8 bytes, F32 or BF16
    I8, U8   FP4 matrix, two e2m1 a byte: [out, in/2]      [out, in/32], same types
    I64      ids                                           none
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from octavo.kernels import quant

TILE = 128
FP4_GROUP = 32
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "I64": torch.int64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I8": torch.int8,
    "U8": torch.uint8,
}
PLAIN = frozenset({"F64", "F32", "BF16", "F16"})
FP8 = "F8_E4M3"
FP4 = frozenset({"I8", "U8"})
SCALES = frozenset({"F8_E8M0", "U8", "F32", "BF16"})


def tensor_bytes(tag: str, shape: tuple[int, ...]) -> int:
    """Bytes of a stored tensor."""
    return prod(shape) * DTYPES[tag].itemsize


def is_quantised(tag: str) -> bool:
    """Whether a matrix stored so has a scale."""
    return tag == FP8 or tag in FP4


def stored_shape(tag: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in the file of a tensor [..., out, in]: FP4 packs two inputs into a byte."""
    return (*shape[:-1], shape[-1] // 2) if tag in FP4 else shape


def scale_shape(tag: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scale of a quantised tensor [..., out, in]."""
    out, width = shape[-2:]
    tail = (-(-out // TILE), -(-width // TILE)) if tag == FP8 else (out, width // FP4_GROUP)
    return (*shape[:-2], *tail)


def fits(tag: str, shape: tuple[int, ...]) -> str | None:
    """Why a tensor of this shape cannot be stored under `tag`, or None."""
    if is_quantised(tag) and len(shape) < 2:
        return f"{tag} needs a matrix"
    if tag in FP4 and shape[-1] % FP4_GROUP:
        return f"FP4 needs a width that is a multiple of {FP4_GROUP}, not {shape[-1]}"
    return None


def encode(value: Tensor, tag: str) -> tuple[Tensor, ...]:
    """The stored tensor, and its e8m0 scale if `tag` has one. NaN and infinity are the caller's to refuse."""
    if tag == FP8:
        values, scale = quant.fp8_quantize_blocks(value)
    elif tag in FP4:
        values, scale = quant.fp4_pack(value)
    else:
        return (value.to(DTYPES[tag]),)
    return values, scale.view(torch.float8_e8m0fnu)


def decode_rows(raw: Tensor, scale: Tensor | None, first_row: int) -> Tensor:
    """Values of stored rows [n, ...] that begin at row `first_row` of a matrix with `scale` (whole, as FP32 factors).

    Plain rows come back as they are, quantised ones as FP32.
    """
    if scale is None:
        return raw
    if raw.dtype == torch.float8_e4m3fn:
        return quant.fp8_dequantize_blocks(raw, scale, TILE, first_row)
    return quant.fp4_unpack(raw, scale[first_row : first_row + raw.shape[0]])


def scale_factors(stored: Tensor) -> Tensor:
    """FP32 factors of a stored scale; e8m0 bytes are exponents, never numbers."""
    return quant.scale_values(stored)
