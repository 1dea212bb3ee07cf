"""Stored weight matrices: FP8 in square tiles, FP4 in groups along the input, and the way from one to the other.

Covers: [out, in] matrices and their scale tensors. Does not cover: files (`octavo.model.checkpoint`).
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
    encode_e2m1,
    group_exponents,
    power_of_two,
    round_e4m3,
    scale_exponent,
)

FP4_GROUP = 32
_TILE_FLOOR = E4M3_MAX * 2.0**-126  # a tile of zeros still has a normal scale
_CODES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_RECAST_SHIFT = 6  # tile scale = largest row scale / 2^6, so the largest value becomes 6 * 2^6 = 384 <= 448


def scale_values(scale: Tensor) -> Tensor:
    """FP32 factors of e8m0 bytes (uint8, float8_e8m0fnu); scales of a wider floating dtype are values already."""
    if scale.dtype == torch.float8_e8m0fnu:
        scale = scale.view(torch.uint8)
    if scale.dtype != torch.uint8:
        return scale.float()
    return power_of_two(scale.to(torch.int32) - BIAS)


def fp8_quantize_blocks(w: Tensor, block: int = 128) -> tuple[Tensor, Tensor]:
    """FP8 matrix and scale bytes of w [out, in]; see the package docstring."""
    values, exponent = _rounded_tiles(w, block)
    return _untile(values, w.shape), (exponent[:, 0, :, 0] + BIAS).to(torch.uint8)


def fp8_round_blocks(w: Tensor, block: int = 128) -> Tensor:
    """FP32 values that w [..., out, in] has after fp8_quantize_blocks, each matrix for itself; see the package
    docstring."""
    values, exponent = _rounded_tiles(w, block)
    return _untile(values.float() * power_of_two(exponent), w.shape)


def fp8_dequantize_blocks(q: Tensor, scale: Tensor, block: int = 128, first_row: int = 0) -> Tensor:
    """FP32 values of the rows from first_row on of a matrix whose tiles have `scale`; see the package docstring."""
    out, width = q.shape
    have, need = tuple(scale.shape), (-(-(first_row + out) // block), -(-width // block))
    if have[0] < need[0] or have[1] != need[1]:
        raise ValueError(f"scale is {list(have)}; rows up to {first_row + out} of width {width} need {list(need)}")
    factors = scale_values(scale).repeat_interleave(block, dim=1)[:, :width]
    row_tile = torch.arange(first_row, first_row + out, device=q.device) // block
    return q.float().mul_(factors.index_select(0, row_tile))


def fp4_pack(w: Tensor) -> tuple[Tensor, Tensor]:
    """Packed e2m1 pairs and scale bytes of w [out, in], in a multiple of 32; see the package docstring."""
    out, width = w.shape
    if width % FP4_GROUP:
        raise ValueError(f"width is {width}; FP4 needs a multiple of {FP4_GROUP}")
    grouped = w.float().unflatten(-1, (-1, FP4_GROUP))
    exponent = group_exponents(grouped, largest=E2M1_MAX, floor=FP4_FLOOR)
    codes = encode_e2m1((grouped / power_of_two(exponent).unsqueeze(-1)).nan_to_num(0.0)).view(out, width // 2, 2)
    packed = codes[..., 0] | (codes[..., 1] << 4)
    return packed.view(torch.int8), (exponent + BIAS).to(torch.uint8)


def fp4_unpack(packed: Tensor, scale: Tensor) -> Tensor:
    """FP32 values of packed [out, in/2] (int8 or uint8); see the package docstring."""
    out, half = packed.shape
    if 2 * half % FP4_GROUP or tuple(scale.shape) != (out, 2 * half // FP4_GROUP):
        raise ValueError(f"scale is {list(scale.shape)}; packed {[out, half]} needs {[out, 2 * half // FP4_GROUP]}")
    return (fp4_values(packed).unflatten(-1, (-1, FP4_GROUP)) * scale_values(scale).unsqueeze(-1)).flatten(-2)


def fp4_values(packed: Tensor) -> Tensor:
    """Unscaled values of e2m1 pairs: [..., n] bytes -> FP32 [..., 2n], low half first."""
    raw = packed.contiguous().view(torch.uint8)
    low, high = _pair_table(raw.device)
    index = raw.flatten().to(torch.int32)
    pairs = torch.stack((low.index_select(0, index), high.index_select(0, index)), dim=-1)
    return pairs.view(*raw.shape[:-1], 2 * raw.shape[-1])


def fp4_to_fp8(packed: Tensor, scale: Tensor, block: int = 128) -> tuple[Tensor, Tensor]:
    """The same values as FP8 tiles, bit for bit; see the package docstring.

    Fails with ValueError when the groups of a tile differ by more than 2^14 in scale, which e4m3 cannot span, or when a
    scale is NaN.
    """
    own = scale.view(torch.uint8).to(torch.int32) - BIAS
    if bool((own > BIAS).any()):
        raise ValueError("a scale byte is 255 (NaN); it cannot be recast")
    rows = -(-own.shape[0] // block)
    per_tile = max(1, block // FP4_GROUP)
    padded = F.pad(own, (0, -own.shape[1] % per_tile, 0, -own.shape[0] % block), value=-BIAS)
    tile = padded.view(rows, block, -1, per_tile).amax((1, 3)) - _RECAST_SHIFT
    tile = tile.clamp_min(-BIAS)
    mine = tile.repeat_interleave(block, 0)[: own.shape[0]].repeat_interleave(per_tile, 1)[:, : own.shape[1]]
    values = fp4_values(packed).unflatten(-1, (-1, FP4_GROUP))
    exact = torch.ldexp(values, (own - mine).unsqueeze(-1)).flatten(-2)
    recast = exact.to(torch.float8_e4m3fn)
    if not torch.equal(recast.float(), exact):
        raise ValueError(f"scales of one {block}x{block} tile differ by more than 2^14; FP8 cannot hold them")
    return recast, (tile + BIAS).to(torch.uint8)


def _rounded_tiles(w: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """w [..., out, in] in tiles [..., ceil(out/block), block, ceil(in/block), block], filled up with zeros: e4m3
    values, and the scale exponent of each tile, which has size 1 along the tile."""
    padded = F.pad(w.float(), (0, -w.shape[-1] % block, 0, -w.shape[-2] % block))
    tiles = padded.unflatten(-1, (-1, block)).unflatten(-3, (-1, block))
    exponent = scale_exponent(tiles.abs().amax((-3, -1), keepdim=True).clamp_min(_TILE_FLOOR), E4M3_MAX)
    return round_e4m3(tiles / power_of_two(exponent)), exponent


def _untile(tiles: Tensor, shape: torch.Size) -> Tensor:
    """The matrices [..., out, in] of `shape` out of their tiles."""
    whole = tiles.flatten(-4, -3).flatten(-2, -1)
    return whole[..., : shape[-2], : shape[-1]].contiguous()


def _pair_table(device: torch.device) -> tuple[Tensor, Tensor]:
    """FP32 [256] values of the low and of the high half of every byte."""
    codes = torch.tensor(_CODES, device=device)
    return codes.repeat(16), codes.repeat_interleave(16)
