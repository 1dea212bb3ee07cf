"""Rows of the compressed cache as bytes. Covers: the four quantised row layouts, both ways. Does not cover: FP32 and
BF16 rows, which are plain views, nor where rows lie (`octavo.cache`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels.quant.ref import (
    BIAS,
    E2M1_MAX,
    E4M3_MAX,
    FP4_FLOOR,
    FP8_FLOOR,
    encode_e2m1,
    group,
    group_exponents,
    power_of_two,
    round_e4m3,
)
from octavo.kernels.quant.weights import FP4_GROUP, fp4_values, scale_values

_ROW_GROUP = 64
_SCALE_ALIGN = 8


def encode_rows_fp8(x: Tensor, rope_dims: int) -> Tensor:
    """[N, K] -> uint8 [N, row_bytes]: e4m3 part | rotary part in bf16 | e8m0 scales; see the package docstring."""
    plain = _plain_width(x.shape[-1], rope_dims)
    grouped = group(x[:, :plain], _ROW_GROUP)
    exponent = group_exponents(grouped, largest=E4M3_MAX, floor=FP8_FLOOR)
    values = round_e4m3(grouped / power_of_two(exponent).unsqueeze(-1)).flatten(-2)[:, :plain]
    rope = x[:, plain:].to(torch.bfloat16).contiguous().view(torch.uint8)
    scales = (exponent + BIAS).to(torch.uint8)
    scales = F.pad(scales, (0, -scales.shape[1] % _SCALE_ALIGN))
    return torch.cat((values.contiguous().view(torch.uint8), rope, scales), dim=1)


def decode_rows_fp8(rows: Tensor, width: int, rope_dims: int) -> Tensor:
    """uint8 [N, row_bytes] -> FP32 [N, width]; inverse of `encode_rows_fp8`."""
    plain = _plain_width(width, rope_dims)
    groups = -(-plain // _ROW_GROUP)
    end = plain + 2 * rope_dims
    _require_bytes(rows, end + groups + -groups % _SCALE_ALIGN, width)
    values = rows[:, :plain].contiguous().view(torch.float8_e4m3fn).float()
    factors = scale_values(rows[:, end : end + groups])
    out = torch.empty(rows.shape[0], width, device=rows.device)
    whole = plain // _ROW_GROUP * _ROW_GROUP
    out[:, :whole] = (values[:, :whole].unflatten(-1, (whole // _ROW_GROUP, _ROW_GROUP))
                      * factors[:, : whole // _ROW_GROUP, None]).flatten(-2)  # fmt: skip
    if whole < plain:
        out[:, whole:plain] = values[:, whole:] * factors[:, -1:]
    out[:, plain:] = rows[:, plain:end].contiguous().view(torch.bfloat16)
    return out


def encode_rows_fp4(x: Tensor) -> Tensor:
    """[N, J] -> uint8 [N, J/2 + J/32]: e2m1 pairs | e8m0 scales; J a multiple of 32."""
    _require_groups(x.shape[-1])
    return torch.cat(_pairs(x), dim=1)


def decode_rows_fp4(rows: Tensor, width: int) -> Tensor:
    """uint8 [N, J/2 + J/32] -> FP32 [N, J]; inverse of `encode_rows_fp4`."""
    _require_groups(width)
    _require_bytes(rows, width // 2 + width // FP4_GROUP, width)
    values = fp4_values(rows[:, : width // 2]).unflatten(-1, (width // FP4_GROUP, FP4_GROUP))
    return (values * scale_values(rows[:, width // 2 :]).unsqueeze(-1)).flatten(-2)


def encode_main_fp4(x: Tensor, rope_dims: int) -> Tensor:
    """[N, K] -> uint8 [N, row_bytes]: e2m1 pairs | rotary part in e4m3 | e8m0 scales; see the package docstring."""
    plain = _even_width(x.shape[-1], rope_dims)
    pairs, scales = _pairs(x[:, :plain])
    turned = group(x[:, plain:], FP4_GROUP)
    exponent = group_exponents(turned, largest=E4M3_MAX, floor=FP8_FLOOR)
    rope = round_e4m3(turned / power_of_two(exponent).unsqueeze(-1)).flatten(-2)[:, :rope_dims]
    scales = torch.cat((scales, (exponent + BIAS).to(torch.uint8)), dim=1)
    scales = F.pad(scales, (0, -scales.shape[1] % _SCALE_ALIGN))
    return torch.cat((pairs, rope.contiguous().view(torch.uint8), scales), dim=1)


def decode_main_fp4(rows: Tensor, width: int, rope_dims: int) -> Tensor:
    """uint8 [N, row_bytes] -> FP32 [N, width]; inverse of `encode_main_fp4`."""
    plain = _even_width(width, rope_dims)
    end, still, turned = plain // 2 + rope_dims, -(-plain // FP4_GROUP), -(-rope_dims // FP4_GROUP)
    _require_bytes(rows, end + still + turned + -(still + turned) % _SCALE_ALIGN, width)
    factors = scale_values(rows[:, end : end + still + turned]).repeat_interleave(FP4_GROUP, dim=1)
    out = torch.empty(rows.shape[0], width, device=rows.device)
    torch.mul(fp4_values(rows[:, : plain // 2]), factors[:, :plain], out=out[:, :plain])
    rope, first = rows[:, plain // 2 : end].contiguous().view(torch.float8_e4m3fn).float(), still * FP4_GROUP
    torch.mul(rope, factors[:, first : first + rope_dims], out=out[:, plain:])
    return out


def encode_index_fp8(x: Tensor) -> Tensor:
    """[N, J] -> uint8 [N, J + 4]: e4m3 | one FP32 scale for the row (a power of two)."""
    wide = x.float()
    scale = power_of_two(group_exponents(wide, largest=E4M3_MAX, floor=FP8_FLOOR)).unsqueeze(-1)
    return torch.cat((round_e4m3(wide / scale).view(torch.uint8), scale.view(torch.uint8)), dim=1)


def decode_index_fp8(rows: Tensor, width: int) -> Tensor:
    """uint8 [N, J + 4] -> FP32 [N, J]; inverse of `encode_index_fp8`."""
    _require_bytes(rows, width + 4, width)
    values = rows[:, :width].contiguous().view(torch.float8_e4m3fn).float()
    return values * rows[:, width:].contiguous().view(torch.float32)


def _plain_width(width: int, rope_dims: int) -> int:
    if not 0 <= rope_dims <= width:
        raise ValueError(f"rope_dims is {rope_dims}; it must be 0 to the row's width {width}")
    return width - rope_dims


def _even_width(width: int, rope_dims: int) -> int:
    plain = _plain_width(width, rope_dims)
    if plain % 2:
        raise ValueError(f"rope_dims is {rope_dims} of {width} channels; the others are {plain}, FP4 rows need an even "
                         "number of them")  # fmt: skip
    return plain


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """[N, n], n even -> e2m1 pairs uint8 [N, n / 2] and scale bytes [N, ceil(n / 32)]."""
    grouped = group(x, FP4_GROUP)
    exponent = group_exponents(grouped, largest=E2M1_MAX, floor=FP4_FLOOR)
    codes = encode_e2m1((grouped / power_of_two(exponent).unsqueeze(-1)).nan_to_num(0.0))
    codes = codes.flatten(-2)[:, : x.shape[-1]].unflatten(-1, (x.shape[-1] // 2, 2))
    return codes[..., 0] | (codes[..., 1] << 4), (exponent + BIAS).to(torch.uint8)


def _require_bytes(rows: Tensor, need: int, width: int) -> None:
    if rows.shape[-1] != need:
        raise ValueError(f"rows have {rows.shape[-1]} bytes; a row of width {width} has {need}")


def _require_groups(width: int) -> None:
    if width % FP4_GROUP:
        raise ValueError(f"width is {width}; FP4 rows need a multiple of {FP4_GROUP}")
