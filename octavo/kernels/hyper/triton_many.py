"""The first launch of `triton` for many tokens: the streams are written and multiplied with `fn` on their way.

Covers: `project` for BF16 streams. Does not cover: FP32 streams and few tokens, whose channels several programs share
(`triton`).

A program takes all channels of its tokens, so that their coefficients stay in registers and there is one partial sum.
`fn` is split beforehand into two BF16 matrices whose sum it is to 2^-17, one under the other: a single product on the
matrix units gives both parts' sums, which are added at the end. The bound is memory: streams and y read, streams
written.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.hyper.tiles import load_streams, pick

FROM = 1024  # tokens from which this launch serves: fewer do not fill a GPU without sharing their channels


@dataclass(frozen=True)
class Tile:
    """Tokens and channels of a tile, warps and stages of the program that takes one after another."""

    tokens: int
    channels: int
    warps: int
    stages: int


# Of a write and a product, a product alone, a write alone: the fastest of 9, 7 and 6 sizes for 65,536 tokens with 4
# streams of 512 channels on an H100.
_CROSS, _READ, _WRITE = Tile(32, 64, 4, 3), Tile(64, 64, 4, 3), Tile(8, 512, 8, 2)


@triton.jit
def _split(fn, parts, N, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """fn [N, width] -> parts [2 ROWS, width] BF16: what BF16 keeps of it, then what it keeps of the rest."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    w = tl.load(fn + row * width + c, mask=(row < N) & (c < width), other=0.0).to(tl.float32)
    high = w.to(tl.bfloat16)
    low = (w - high.to(tl.float32)).to(tl.bfloat16)
    tl.store(parts + row * width + c, high, mask=c < width)
    tl.store(parts + (ROWS + row) * width + c, low, mask=c < width)


@triton.jit
def _column(k: tl.constexpr, post, comb, t, ok, M: tl.constexpr):
    """What stream k of tokens t is made with: post_k and comb[0 .. 3, k]; those beyond M are not used."""
    K: tl.constexpr = k if k < M else 0
    c = comb + t * (M * M) + K
    p = tl.load(post + t * M + K, mask=ok, other=0.0)[:, None]
    c0 = tl.load(c, mask=ok, other=0.0)[:, None]
    c1 = c0
    c2 = c0
    c3 = c0
    if M > 1:
        c1 = tl.load(c + M, mask=ok, other=0.0)[:, None]
    if M > 2:
        c2 = tl.load(c + 2 * M, mask=ok, other=0.0)[:, None]
        c3 = tl.load(c + 3 * M, mask=ok, other=0.0)[:, None]
    return p, c0, c1, c2, c3


@triton.jit
def _project(
    streams, y, post, comb, parts, after, partial, T, D,
    M: tl.constexpr, N: tl.constexpr, WRITE: tl.constexpr, PROJECT: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    t = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)
    ok = t < T
    o = tl.arange(0, 2 * ROWS)
    acc = tl.zeros((BLOCK_T, 2 * ROWS), tl.float32)
    squares = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
    if WRITE:
        p0, a0, b0, c0, d0 = _column(0, post, comb, t, ok, M)
        p1, a1, b1, c1, d1 = _column(1, post, comb, t, ok, M)
        p2, a2, b2, c2, d2 = _column(2, post, comb, t, ok, M)
        p3, a3, b3, c3, d3 = _column(3, post, comb, t, ok, M)
    for at in range(0, D, BLOCK_D):
        d = at + tl.arange(0, BLOCK_D)
        there = ok[:, None] & (d < D)[None, :]
        place = t[:, None] * (M * D) + d[None, :]
        h0, h1, h2, h3 = load_streams(streams + place, there, D, M)
        if WRITE:
            out = tl.load(y + t[:, None] * D + d[None, :], mask=there, other=0.0).to(tl.float32)
        for k in tl.static_range(M):
            h = pick(k, h0, h1, h2, h3)
            if WRITE:
                h = pick(k, p0, p1, p2, p3) * out + pick(k, a0, a1, a2, a3) * h0
                if M > 1:
                    h += pick(k, b0, b1, b2, b3) * h1
                if M > 2:
                    h += pick(k, c0, c1, c2, c3) * h2
                    h += pick(k, d0, d1, d2, d3) * h3
            rounded = h.to(after.dtype.element_ty)
            if WRITE:
                tl.store(after + place + k * D, rounded, mask=there)
            if PROJECT:
                h = rounded.to(tl.float32)
                squares += h * h
                weights = parts + o[:, None] * (M * D) + (k * D + d)[None, :]
                w = tl.load(weights, mask=(d < D)[None, :], other=0.0)
                if NATIVE:  # opaque, or Triton would load and compute h once more in the layout that the product wants
                    rounded = tl.inline_asm_elementwise(
                        "mov.b32 $0, $1;", "=r,r", [rounded], dtype=rounded.dtype, is_pure=False, pack=2
                    )
                    acc = tl.dot(rounded, tl.trans(w), acc)
                else:
                    acc = tl.dot(h, tl.trans(w).to(tl.float32), acc, input_precision="ieee")
    if PROJECT:
        o = tl.arange(0, ROWS)[None, :]
        raw = tl.sum(tl.reshape(acc, (BLOCK_T, 2, ROWS)), axis=1)
        raw = tl.where(o == N, tl.sum(squares, axis=1)[:, None], raw)
        tl.store(partial + t[:, None] * ROWS + o, raw, mask=ok[:, None] & (o <= N))


def serves(streams: Tensor) -> bool:
    """Whether `project` is the launch for these streams [T, M, D]."""
    return len(streams) >= FROM and streams.dtype == torch.bfloat16


def project(
    streams: Tensor, written: tuple[Tensor, Tensor, Tensor] | None, fn: Tensor | None, after: Tensor, partial: Tensor,
    *, N: int, rows: int, tile: Tile | None = None,
) -> None:  # fmt: skip
    """Write `after` [T, M, D] from (y, post, comb) if given, and `partial` [1, T, rows] with `fn` [N, M D] if given:
    column n < N is the product of after (of the streams, if nothing is written) with row n, column N the sum of
    squares."""
    T, M, D = streams.shape
    if tile is None:
        tile = _READ if written is None else _WRITE if fn is None else _CROSS
    y, post, comb = (streams, partial, partial) if written is None else written
    parts = partial
    if fn is not None:
        parts = streams.new_empty((2 * rows, M * D))
        _split[(triton.cdiv(M * D, 64),)](fn, parts, N, M * D, ROWS=rows, BLOCK=64, num_warps=4)
    _project[(triton.cdiv(T, tile.tokens),)](
        streams, y, post, comb, parts, after, partial, T, D,
        M=M, N=N, WRITE=written is not None, PROJECT=fn is not None, ROWS=rows, BLOCK_T=tile.tokens,
        BLOCK_D=tile.channels, NATIVE=streams.is_cuda, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
