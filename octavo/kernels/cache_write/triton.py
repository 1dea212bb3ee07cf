"""Queries and window rows on a GPU, one launch: programs of a few heads of a token, and one for the token's ring row.

Covers: `cache_write` and `rotate_out`. Does not cover: compressed entries, FP8 queries.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false, reportAssignmentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.bits import e8m0_of, inverse_e8m0, magnitude, to_bf16, to_e4m3
from octavo.kernels.cache_write.ref import check, check_out
from octavo.kernels.paged import Format, Places, Ring
from octavo.kernels.rmsnorm.triton import inverse_rms
from octavo.kernels.rope.triton import turn

_TILE = 4096  # values of a program where tokens are many
_ALONE = 512  # and where they are few
_FEW = 64  # tokens


@triton.jit
def _store_fp8(row, x, K: tl.constexpr, ROPE: tl.constexpr, BLOCK: tl.constexpr):
    """FP32 x [1, BLOCK] -> e4m3 | bf16 | e8m0 of 64 channels each, filled up with zeros to a multiple of 8 bytes."""
    PLAIN: tl.constexpr = K - ROPE
    GROUPS: tl.constexpr = BLOCK // 64
    SCALES: tl.constexpr = ((PLAIN + 63) // 64 + 7) // 8 * 8
    PAD: tl.constexpr = BLOCK // 64 if BLOCK > 512 else 8
    n = tl.arange(0, BLOCK)
    x = tl.reshape(x, (BLOCK,))
    grouped = tl.reshape(tl.where(n < PLAIN, x, 0.0), (GROUPS, 64))
    largest = tl.max(magnitude(grouped), axis=1).to(tl.float32, bitcast=True)
    scale = e8m0_of(largest, 448)
    codes = to_e4m3(grouped * inverse_e8m0(scale)[:, None])
    tl.store(row + n, tl.reshape(codes, (BLOCK,)), mask=n < PLAIN)
    if ROPE > 0:
        tl.store((row + PLAIN).to(tl.pointer_type(tl.int16)) + n - PLAIN, to_bf16(x), mask=(n >= PLAIN) & (n < K))
    to = row + PLAIN + 2 * ROPE
    g = tl.arange(0, GROUPS)
    tl.store(to + g, scale, mask=g * 64 < PLAIN)
    g = tl.arange(0, PAD)
    tl.store(to + g, tl.zeros((PAD,), tl.uint8), mask=(g * 64 >= PLAIN) & (g < SCALES))


@triton.jit(do_not_specialize=["T"])
def _cache_write(
    q, kv, weight, cos, sin, ring, sequence, position, out, T, R, eps,
    H: tl.constexpr, K: tl.constexpr, P: tl.constexpr, ROPE: tl.constexpr, ROW: tl.constexpr, FORMAT: tl.constexpr,
    HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0)
    part = tl.program_id(1)
    n = tl.arange(0, BLOCK)[None, :]
    p = tl.load(position + t)
    wide = t.to(tl.int64)
    ok = tl.zeros((1, 1), tl.int32) + p >= 0
    if part > 0:
        h = (part - 1) * HEADS + tl.arange(0, HEADS)[:, None]
        there = (h < H) & (n < K)
        at = (wide * H + h) * K + n
        x = tl.load(q + at, mask=there & ok, other=0.0).to(tl.float32)
        x = turn(x * inverse_rms(x, K, eps), cos, sin, wide, ok, P, K, 1)
        tl.store(out + at, x.to(out.dtype.element_ty), mask=there)
    else:
        b = tl.load(sequence + t)
        # A later token of this step may take the same slot: tokens of a sequence are consecutive.
        after = tl.load(position + t + R, mask=t + R < T, other=-1)
        same = tl.load(sequence + t + R, mask=t + R < T, other=-1) == b
        if (p >= 0) & ~(same & (after == p + R)):
            x = tl.load(kv + wide * K + n, mask=n < K, other=0.0).to(tl.float32)
            x = x * inverse_rms(x, K, eps) * tl.load(weight + n, mask=n < K, other=0.0).to(tl.float32)
            x = turn(x, cos, sin, wide, ok, P, K, 1)
            row = ring + (b.to(tl.int64) * R + (p & (R - 1))) * ROW
            if FORMAT == "fp8":
                _store_fp8(row, x, K, ROPE, BLOCK)
            elif FORMAT == "bf16":
                tl.store(row.to(tl.pointer_type(tl.int16)) + n, to_bf16(x), mask=n < K)
            else:
                tl.store(row.to(tl.pointer_type(tl.float32)) + n, x, mask=n < K)


@triton.jit(do_not_specialize=["rows"])
def _rotate_out(
    o, cos, sin, out, rows, H, K: tl.constexpr, P: tl.constexpr, FIRST: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Channels FIRST .. K - 1 of a few rows."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    n = tl.arange(0, BLOCK)[None, :]
    ok = row < rows
    there = ok & (n < K - FIRST)
    at = row * K + FIRST + n
    x = tl.load(o + at, mask=there, other=0.0).to(tl.float32)
    x = turn(x, cos, sin, row // H, ok, P, K - FIRST, -1)
    tl.store(out + at, x.to(out.dtype.element_ty), mask=there)


def cache_write(
    q: Tensor, kv: Tensor, kv_weight: Tensor, cos: Tensor, sin: Tensor, ring: Ring, places: Places, *, eps: float,
    format: Format, rope: int, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See the package docstring for the contract."""
    check(q, kv, kv_weight, cos, sin, ring, places, format, rope, out)
    T, H, K = q.shape
    made = torch.empty_like(q) if out is None else out
    if T == 0:
        return made
    block = max(64, triton.next_power_of_2(K))
    heads = max(1, min((_ALONE if T <= _FEW else _TILE) // block, triton.next_power_of_2(max(H, 1))))
    _cache_write[(T, 1 + triton.cdiv(H, heads))](
        q, kv, kv_weight, cos, sin, ring.rows, places.sequence, places.position, made, T, ring.length,
        eps,
        H=H, K=K, P=2 * cos.shape[1], ROPE=rope, ROW=ring.rows.shape[-1], FORMAT=format, HEADS=heads, BLOCK=block,
        num_warps=min(8, max(1, heads * block // 512)),
    )  # fmt: skip
    return made


def rotate_out(o: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor | None = None) -> Tensor:
    """See the package docstring for the contract."""
    check_out(o, cos, sin, out)
    T, H, K = o.shape
    made = torch.empty_like(o) if out is None else out
    if o.numel() == 0:
        return made
    first = K - 2 * cos.shape[1] if made.data_ptr() == o.data_ptr() else 0
    block = triton.next_power_of_2(K - first)
    rows = max(1, min((_ALONE if T <= _FEW else _TILE) // block, triton.next_power_of_2(T * H)))
    _rotate_out[(triton.cdiv(T * H, rows),)](
        o, cos, sin, made, T * H, H, K=K, P=2 * cos.shape[1], FIRST=first, ROWS=rows, BLOCK=block,
        num_warps=min(8, max(1, rows * block // 512)),
    )  # fmt: skip
    return made
