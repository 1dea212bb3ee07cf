"""Linear maps on a GPU: FP8 weights decoded on the way to the matrix units, dense weights, few and many tokens.

Covers: `linear` and `grouped_linear` forward, with the products of few tokens split over the inner dimension and added
up in a fixed order. Does not cover: gradients, activations in FP8 (`triton_fp8`).
"""

# pyright: reportAssignmentType=false, reportCallIssue=false

from __future__ import annotations

import math
from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.linear.packed import BLOCK, PROGRAMS, Tiles, ordered_sum, pack, product

_FEW = 64  # tokens up to which x is read through the packed order instead of being rewritten in it
_MAX_SPLITS = 32  # their sum is unrolled


def tiles_for(T: int, N: int, *, dense: bool) -> Tiles:
    """Block sizes for T tokens and N channels."""
    tokens = min(max(triton.next_power_of_2(T), 16), 128)
    width = BLOCK if not dense else min(64 if tokens > 64 else 128, N & -N)
    if tokens <= 32:
        return Tiles(rows=64, tokens=tokens, width=width, warps=4, stages=5)
    return Tiles(rows=128, tokens=tokens, width=width, warps=4, stages=2)


@triton.jit(do_not_specialize=["T"])
def _linear(
    x, w, s, out, T, O, x_row, part,
    N: tl.constexpr, IN_GROUP: tl.constexpr, PER_SPLIT: tl.constexpr, FORMAT: tl.constexpr, PACKED: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    start = tl.program_id(2) * PER_SPLIT
    group = tl.program_id(0) * ROWS // IN_GROUP
    source = tl.minimum(row, O - 1)
    per_word: tl.constexpr = 4 if FORMAT == "fp8" else 1
    acc = product(
        x + token.to(tl.int64) * x_row + group * N, token < T, w + source.to(tl.int64) * (N // per_word),
        s + source // 128 * (N // 128), start, tl.minimum(PER_SPLIT, N // WIDTH - start),
        ROWS, TOKENS, WIDTH, FORMAT, PACKED, WIDE,
    )  # fmt: skip
    to = out + tl.program_id(2) * part.to(tl.int64) + token.to(tl.int64)[None, :] * O + row[:, None]
    tl.store(to, acc.to(out.dtype.element_ty), mask=(row < O)[:, None] & (token < T)[None, :])


def linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """x [..., N] times weight [O, N] -> [..., O] in `dtype` (default: x's), FP32 inside.

    weight: x's dtype, N a multiple of 16; or e4m3 (float8_e4m3fn, uint8) with `scale` e8m0 [ceil(O / 128), N / 128], N
    a multiple of 128. No gradient. ValueError for other shapes and dtypes.
    """
    flat = x.reshape(-1, 1, x.shape[-1])
    return _run(flat, weight, scale, dtype, tiles).view(*x.shape[:-1], weight.shape[0])


def grouped_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """x [T, G, N] times weight [G * R, N] -> [T, G * R]: rows g R .. g R + R - 1 read group g; otherwise `linear`."""
    return _run(x, weight, scale, dtype, tiles)


def _run(x: Tensor, weight: Tensor, scale: Tensor | None, dtype: torch.dtype | None, tiles: Tiles | None) -> Tensor:
    (T, G, N), O = x.shape, weight.shape[0]
    check(x, weight, scale)
    out = torch.empty(T, O, dtype=dtype or x.dtype, device=x.device)
    if T == 0 or O == 0:
        return out
    if tiles is None:
        tiles = tiles_for(T, N, dense=scale is None)
        if G > 1 and O // G % 16 == 0:  # a program's rows are of one group
            tiles = replace(tiles, rows=math.gcd(O // G, tiles.rows))
    if O // G % tiles.rows and G > 1:
        raise ValueError(f"weight has {O // G} rows a group; with several groups it must be a multiple of {tiles.rows}")
    packed = scale is not None and T > _FEW
    x = pack(x.reshape(T, G * N)) if packed else x.reshape(T, G * N).contiguous()
    blocks, steps = triton.cdiv(O, tiles.rows) * triton.cdiv(T, tiles.tokens), N // tiles.width
    per_split = triton.cdiv(steps, min(steps, _MAX_SPLITS, triton.cdiv(PROGRAMS, blocks))) if T <= _FEW else steps
    splits = triton.cdiv(steps, per_split)
    parts = out if splits == 1 else torch.empty(splits, T, O, dtype=torch.float32, device=x.device)
    words = weight if scale is None else weight.view(torch.int32)
    bytes_ = weight if scale is None else scale.view(torch.uint8)
    _linear[(triton.cdiv(O, tiles.rows), triton.cdiv(T, tiles.tokens), splits)](
        x, words, bytes_, parts, T, O, G * N, T * O, N, max(O // G, 1), per_split, "dense" if scale is None else "fp8",
        packed, wide(x), tiles.rows, tiles.tokens, tiles.width, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return out if splits == 1 else ordered_sum(parts.transpose(0, 1), out.dtype)


def wide(x: Tensor) -> bool:
    """Whether products run in FP32: FP32 activations, and the interpreter, which has no BF16 products."""
    return x.dtype == torch.float32 or not x.is_cuda


def check(x: Tensor, weight: Tensor, scale: Tensor | None) -> None:
    """ValueError unless x [T, G, N], weight [O, N] and scale fit together and no gradient is asked for."""
    (G, N), O = x.shape[1:], weight.shape[0]
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        raise ValueError("x or weight requires a gradient; this product has none")
    if weight.shape[1:] != (N,) or O % G:
        raise ValueError(f"weight is {list(weight.shape)}; x of {G} groups of {N} needs a multiple of {G} rows of {N}")
    if not weight.is_contiguous():
        raise ValueError("weight is not contiguous; its rows must lie one after the other")
    if scale is None:
        if weight.dtype != x.dtype or N % 16:
            raise ValueError(f"weight is {weight.dtype} of width {N}; it must be {x.dtype} and a multiple of 16")
        return
    if weight.dtype not in (torch.uint8, torch.float8_e4m3fn) or N % BLOCK:
        raise ValueError(f"weight is {weight.dtype} of width {N}; with a scale it is e4m3 and a multiple of {BLOCK}")
    wanted = (triton.cdiv(O, BLOCK), N // BLOCK)
    if tuple(scale.shape) != wanted or scale.element_size() != 1 or not scale.is_contiguous():
        raise ValueError(f"scale is {scale.dtype} {list(scale.shape)}; one byte is needed for each of {list(wanted)}")
