"""Linear maps of FP8 activations and FP8 weights on a GPU's FP8 matrix units.

Covers: rounding the activations to e4m3 with a power-of-two scale for each 128 channels (the rule of
`octavo.kernels.quant`), and the product, whose partial sums of 128 channels are scaled and added in FP32: the library's
where it has one for such scales (cuBLAS from 12.9 on, compute capability 9.0), else one of ours. Does not cover: BF16
activations (`triton`), gradients.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.bits import e8m0_of, from_e4m3, from_e8m0, inverse_e8m0, magnitude, to_e4m3
from octavo.kernels.linear.packed import BLOCK, Tiles
from octavo.kernels.linear.triton import check
from octavo.kernels.quant import scale_values

_ROUNDED = 16  # rows of a program that rounds
_LIBRARY = 512  # channels by which the library's product takes them: scales of 128 in fours
_ALIGNED = 16  # rows by which the library's product wants them


@triton.jit
def _round(x, codes, scales, T, row_step, N: tl.constexpr, FACTORS: tl.constexpr, ROWS: tl.constexpr):
    """FACTORS: scales are FP32 values and a group's rows lie together, else e8m0 bytes and a row's groups do."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    group = tl.program_id(1)
    at = row[:, None] * N + group * 128 + tl.arange(0, 128)[None, :]
    values = tl.load(x + at, mask=(row < T)[:, None], other=0.0).to(tl.float32)
    scale = e8m0_of(tl.max(magnitude(values), axis=1).to(tl.float32, bitcast=True), 448)
    tl.store(codes + at, to_e4m3(values * inverse_e8m0(scale)[:, None]), mask=(row < row_step)[:, None])
    if FACTORS:
        tl.store(scales + group * row_step + row, from_e8m0(scale), mask=row < row_step)
    else:
        tl.store(scales + row * (N // 128) + group, scale, mask=row < T)


@triton.jit
def _product(
    codes, scales, w, w_scales, out, T, O,
    N: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    source, inner = tl.minimum(row, O - 1), tl.arange(0, 128)
    x_at = codes + tl.minimum(token, T - 1).to(tl.int64)[:, None] * N + inner[None, :]
    w_at = w + source.to(tl.int64)[:, None] * N + inner[None, :]
    xs_at = scales + tl.minimum(token, T - 1).to(tl.int64) * (N // 128)
    ws_at = w_scales + tl.program_id(0) * ROWS // 128 * (N // 128)  # 128 is a multiple of ROWS
    acc = tl.zeros((TOKENS, ROWS), tl.float32)
    for step in range(N // 128):
        a, b = tl.load(x_at + step * 128), tl.load(w_at + step * 128)
        if WIDE:
            part = tl.dot(from_e4m3(a), tl.trans(from_e4m3(b)), input_precision="ieee")
        else:
            part = tl.dot(a.to(tl.float8e4nv, bitcast=True), tl.trans(b.to(tl.float8e4nv, bitcast=True)))
        acc += part * (from_e8m0(tl.load(xs_at + step)) * from_e8m0(tl.load(ws_at + step)))[:, None]
    to = out + token.to(tl.int64)[:, None] * O + row[None, :]
    tl.store(to, acc.to(out.dtype.element_ty), mask=(token < T)[:, None] & (row < O)[None, :])


def round_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [T, N], N a multiple of 128 -> e4m3 codes [T, N] and e8m0 scales [T, N / 128], both uint8; a group that
    holds NaN or an infinity becomes NaN as a whole."""
    T, N = x.shape
    codes, scales = (torch.empty(T, n, dtype=torch.uint8, device=x.device) for n in (N, N // BLOCK))
    if T:
        _round[(triton.cdiv(T, _ROUNDED), N // BLOCK)](
            x.contiguous(), codes, scales, T, T, N, False, _ROUNDED, num_warps=4
        )
    return codes, scales


def linear_fp8(
    x: Tensor, weight: Tensor, scale: Tensor, *, dtype: torch.dtype | None = None, tiles: Tiles | None = None
) -> Tensor:
    """x [T, N] rounded to FP8, times weight e4m3 [O, N] with scale e8m0 [ceil(O / 128), N / 128] -> [T, O] in `dtype`.

    Twice the arithmetic rate of `triton.linear` for a relative error of about 3 %: 3 mantissa bits of activation. No
    gradient. ValueError as there.
    """
    (T, N), O = x.shape, weight.shape[0]
    check(x.unsqueeze(1), weight, scale)
    out = torch.empty(T, O, dtype=dtype or x.dtype, device=x.device)
    if T == 0 or O == 0:
        return out
    fits = tiles is None and O % BLOCK == 0 and N % _LIBRARY == 0 and out.dtype == torch.bfloat16
    if fits and has_library_product(x.device):
        return _library_product(x, weight, scale, out)
    codes, scales = round_activations(x)
    tiles = tiles or Tiles(128, 64 if T <= 64 else 128, BLOCK, 8, 3)
    if BLOCK % tiles.rows:
        raise ValueError(f"tiles have {tiles.rows} rows; {BLOCK} must be a multiple of that")
    _product[(triton.cdiv(O, tiles.rows), triton.cdiv(T, tiles.tokens))](
        codes, scales, weight.view(torch.uint8), scale.view(torch.uint8), out, T, O, N, not x.is_cuda, tiles.rows,
        tiles.tokens, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return out


@functools.cache
def has_library_product(device: torch.device) -> bool:
    """Whether the library multiplies FP8 with scales of 1 x 128 and 128 x 128 on this device."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return False
    version = (torch.version.cuda or "0.0").split(".")
    return hasattr(torch.nn.functional, "scaled_mm") and (int(version[0]), int(version[1])) >= (12, 9)


def _library_product(x: Tensor, weight: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """The product into BF16 rows; those of x are filled up with zeros to a multiple of what the library wants."""
    from torch.nn.functional import ScalingType, scaled_mm

    (T, N), most = x.shape, triton.cdiv(x.shape[0], _ALIGNED) * _ALIGNED
    codes = torch.empty(most, N, dtype=torch.float8_e4m3fn, device=x.device)
    factors = torch.empty(N // BLOCK, most, device=x.device)
    _round[(triton.cdiv(most, _ROUNDED), N // BLOCK)](
        x.contiguous(), codes.view(torch.uint8), factors, T, most, N, True, _ROUNDED, num_warps=4
    )
    made = scaled_mm(
        codes, weight.view(torch.float8_e4m3fn).t(), factors.t(), ScalingType.BlockWise1x128, scale_values(scale).t(),
        ScalingType.BlockWise128x128, output_dtype=out.dtype,
    )  # fmt: skip
    return made if most == T else made[:T].contiguous()
