"""The kernels that close groups: rows of tokens pooled, normed, turned, transformed; rows kept for later steps.

Covers: one program for every packed token. Does not cover: bytes of an entry (`triton_rows`), when one launch may do
both (`triton`).
"""

# Triton's annotations do not know that constants arrive as plain numbers.
# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.compress.triton_rows import write_entry
from octavo.kernels.hadamard.triton import signs


@triton.jit
def _pool(raw, bias, ring, sequence, position, t, b, p, K: tl.constexpr, N: tl.constexpr, W: tl.constexpr,
          R: tl.constexpr, RATIO: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    """The entry [N] that token p of sequence b closes at packed row t: a softmax over SPAN tokens for each channel.

    Tokens of this step are the packed rows before t, those of earlier steps lie in the ring. With overlap (SPAN = 2
    RATIO) the first half of the tokens gives channels 0 .. K - 1 of its rows, the second K .. 2 K - 1.
    """
    c = tl.arange(0, N)
    most = tl.full((N,), float("-inf"), tl.float32)
    total, weighted = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    for first in range(0, SPAN, TILE):
        j = first + tl.arange(0, TILE)
        token, at = p - (SPAN - 1) + j, t - (SPAN - 1) + j
        here = (at >= 0) & (token >= 0) & (tl.load(sequence + at, mask=at >= 0, other=-1) == b)
        here = here & (tl.load(position + at, mask=at >= 0, other=-1) == token)
        past = (token >= 0) & (here == 0)
        column = (j // RATIO * K)[:, None] + c[None, :]
        new = raw + at.to(tl.int64)[:, None] * (2 * W) + column
        old = ring + (b.to(tl.int64) * R + (token & (R - 1)))[:, None] * (2 * W) + column
        is_new, is_old = here[:, None] & (c < K)[None, :], past[:, None] & (c < K)[None, :]
        value = tl.load(new, mask=is_new, other=0.0) + tl.load(old, mask=is_old, other=0.0)
        score = tl.load(new + W, mask=is_new, other=0.0) + tl.load(old + W, mask=is_old, other=0.0)
        score += tl.load(bias + (j % RATIO)[:, None] * W + column, mask=(c < K)[None, :], other=0.0)
        score = tl.where((token >= 0)[:, None], score, float("-inf"))
        higher = tl.maximum(most, tl.max(score, axis=0))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        share, shrink = tl.exp(score - base[None, :]), tl.exp(most - base)
        total = total * shrink + tl.sum(share, axis=0)
        weighted = weighted * shrink + tl.sum(share * value, axis=0)
        most = higher
    return weighted / total


@triton.jit
def _turn(x, freq, token, K: tl.constexpr, N: tl.constexpr, P: tl.constexpr):
    """Rotate the pairs of the last P of K channels by token * freq. Whole turns are taken off in FP64: what is left
    lies within half a turn and keeps its phase in FP32."""
    pair = tl.arange(0, N // 2) - (K - P) // 2
    rate = tl.load(freq + pair, mask=(pair >= 0) & (pair < P // 2), other=0.0).to(tl.float64)
    angle, turn = token.to(tl.float64) * rate, tl.full((), 6.283185307179586, tl.float64)
    angle = (angle - tl.floor(angle / turn + 0.5) * turn).to(tl.float32)
    cos, sin = tl.cos(angle), tl.sin(angle)
    even, odd = tl.split(tl.reshape(x, (N // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (N,))


@triton.jit
def _hadamard(x, N: tl.constexpr, OUTER: tl.constexpr, SCALE: tl.constexpr):
    """SCALE * H x: the matrix of N = OUTER * INNER is the Kronecker product of theirs."""
    INNER: tl.constexpr = N // OUTER
    grid = tl.reshape(x, (OUTER, INNER))
    grid = tl.sum(tl.expand_dims(grid, 2) * tl.expand_dims(signs(INNER), 0), axis=1)
    grid = tl.sum(tl.expand_dims(grid, 1) * tl.expand_dims(signs(OUTER), 2), axis=0)
    return tl.reshape(grid, (N,)) * SCALE


@triton.jit
def _keep(raw, ring, t, b, p, W: tl.constexpr, WP: tl.constexpr, R: tl.constexpr):
    """Copy packed row t to the ring."""
    c = tl.arange(0, WP)
    row = tl.load(raw + t.to(tl.int64) * (2 * W) + c, mask=c < 2 * W, other=0.0)
    tl.store(ring + (b.to(tl.int64) * R + (p & (R - 1))) * (2 * W) + c, row, mask=c < 2 * W)


@triton.jit
def keep_kernel(raw, ring, sequence, position, T, W: tl.constexpr, WP: tl.constexpr, R: tl.constexpr):
    """Put the last R rows of every sequence into its ring; one program a packed row."""
    t = tl.program_id(0)
    b, p = tl.load(sequence + t), tl.load(position + t)
    later = t + R < T  # the token that takes the same slot
    other = tl.load(position + t + R, mask=later, other=-1) == p + R
    other = other & (tl.load(sequence + t + R, mask=later, other=-1) == b)
    if (p >= 0) & (other == 0):
        _keep(raw, ring, t, b, p, W, WP, R)


@triton.jit
def close_kernel(
    raw, bias, ring, weight, freq, rows, second, table, sequence, position, pages, eps,
    K: tl.constexpr, N: tl.constexpr, P: tl.constexpr, W: tl.constexpr, WP: tl.constexpr, R: tl.constexpr,
    RATIO: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr, PER_PAGE: tl.constexpr, ROW: tl.constexpr,
    LAYOUT: tl.constexpr, OUTER: tl.constexpr, SCALE: tl.constexpr, KEEPS: tl.constexpr,
):  # fmt: skip
    """Write the entry that packed row t closes, if it closes one that the table has a place for; OUTER 0: no Hadamard
    transform; KEEPS: put the row into the ring too."""
    t = tl.program_id(0)
    b, p = tl.load(sequence + t), tl.load(position + t)
    entry = p // RATIO
    if (p >= 0) & ((p + 1) % RATIO == 0) & (entry < pages * PER_PAGE):
        x = _pool(raw, bias, ring, sequence, position, t, b, p, K, N, W, R, RATIO, SPAN, TILE)
        c = tl.arange(0, N)
        square = tl.sum(x * x, axis=0) / K
        x = x / tl.sqrt(square + eps) * tl.load(weight + c, mask=c < K, other=0.0).to(tl.float32)
        if P > 0:
            x = _turn(x, freq, p - (RATIO - 1), K, N, P)
        if OUTER > 0:
            x = _hadamard(x, N, OUTER, SCALE)
        page = tl.load(table + b * pages + entry // PER_PAGE)
        write_entry(x, rows, second, page.to(tl.int64) * PER_PAGE + entry % PER_PAGE, K, N, P, ROW, LAYOUT)
    if KEEPS & (p >= 0):
        _keep(raw, ring, t, b, p, W, WP, R)
