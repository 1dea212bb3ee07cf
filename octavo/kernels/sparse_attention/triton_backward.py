"""The kernels of the backward pass over plain tensors: gradients of queries, and of rows, which are keys and values.

Covers: `delta_kernel`, sum(g o) of every query and head; `query_kernel`, one program for a few queries, as in the
forward pass, which also scatters the gradients of picked entries with atomic additions in FP32 (their order, and so the
last bits, change from run to run); `row_kernel`, one program for a few window rows or entries, over all queries that
see them, without atomics. With p the probabilities, g the output's gradient and x a row: dp = g . x,
ds = p (dp - sum(g o)) scale, dq = sum ds x, dx = sum ds q + p g. Does not cover: the sink's gradient, sizes of tiles
(`triton_training`).
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.sparse_attention.triton_forward import (
    LOG2E,
    SIZES,
    borders_of,
    keys_of,
    marked,
    run_of,
    seen_by,
    whole_tiles,
)
from octavo.kernels.sparse_attention.triton_rows import (
    CAUSAL,
    MARKED,
    PICKED,
    add_rows,
    load_queries,
    locate,
    products,
    read_rows,
    store_rows,
    zero_rows,
)

_CAUSAL, _PICKED, _MARKED = tl.constexpr(CAUSAL), tl.constexpr(PICKED), tl.constexpr(MARKED)


@triton.jit
def delta_kernel(g, out, delta, R, K: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """delta FP32 [R]: products of the rows of g and out [R, K]."""
    r, c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, W)
    at = r.to(tl.int64)[:, None] * K + c[None, :]
    inside = (r < R)[:, None] & (c < K)[None, :]
    a = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(out + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(delta + r, tl.sum(a * b, 1), mask=r < R)


@triton.jit
def _scatter(rows, ok, x0, x1, K: tl.constexpr, W: tl.constexpr):
    """Add tiles [N, W] to FP32 rows at pointers `rows` [N] where `ok`."""
    c = tl.arange(0, W)
    at = rows[:, None] + c[None, :]
    tl.atomic_add(at, x0, mask=ok[:, None] & (c < K)[None, :], sem="relaxed")
    if K > W:
        tl.atomic_add(at + W, x1, mask=ok[:, None] & (W + c < K)[None, :], sem="relaxed")


@triton.jit
def _tiles(
    b, t, first, last, place, mine, q0, q1, g0, g1, lse, delta, a0, a1, grad_far,
    near_rows, far_rows, table, picks, offset, begin, low, high, RING, STORE, pages, picked, shift, window, scale,
    SELECTION: tl.constexpr, OFFSET: tl.constexpr, BORDERS: tl.constexpr, RATIO: tl.constexpr, ROW: tl.constexpr,
    ALIGN: tl.constexpr, FORMAT: tl.constexpr, NATIVE: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr,
    W: tl.constexpr, DOT: tl.constexpr, QUERIES: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Gradients of the queries of one run, a + ..."""
    K: tl.constexpr = PLAIN + ROPE
    lo, near, total = keys_of(first, last, window, shift, pages, picked, STORE, RATIO, 0, SELECTION, True)
    if SELECTION == _MARKED:
        lo, near, total = whole_tiles(lo, near, total, BLOCK_K)
    level = 0.0
    if OFFSET:
        level = tl.load(offset + b) * LOG2E
    for tile in range(tl.cdiv(total, BLOCK_K)):
        j = tile * BLOCK_K + tl.arange(0, BLOCK_K)
        row, is_near, far, number = locate(
            j, near, total, lo, b, t, table, picks, RING, STORE, pages, picked, shift, SELECTION, True, 0
        )
        x0, x1 = read_rows(
            near_rows, far_rows, is_near, row, is_near | far, FORMAT, NATIVE, ROW, ALIGN, PLAIN, ROPE, W, DOT
        )
        s = products(q0, q1, x0, x1, K, W) * (scale * LOG2E)
        if OFFSET:
            s += tl.where(is_near, 0.0, level)[None, :]
        seen = seen_by(
            place, mine, is_near, far, number, window, begin, low, high, RATIO, SELECTION, QUERIES, BORDERS
        )
        if SELECTION == _MARKED:
            seen = seen | marked(picks, picked, t, tile * BLOCK_K - near, number, far, mine, QUERIES)
        p = tl.where(seen, tl.exp2(tl.where(seen, s, 0.0) - lse[:, None]), 0.0)
        ds = (p * (products(g0, g1, x0, x1, K, W) - delta[:, None]) * scale).to(DOT)
        a0, a1 = add_rows(ds, x0, x1, a0, a1, K, W)
        if SELECTION == _PICKED:
            d0, d1 = zero_rows(BLOCK_K, K, W)
            d0, d1 = add_rows(tl.trans(ds), q0, q1, d0, d1, K, W)
            d0, d1 = add_rows(tl.trans(p.to(DOT)), g0, g1, d0, d1, K, W)
            _scatter(grad_far + row * K, far, d0, d1, K, W)
    return a0, a1


@triton.jit(do_not_specialize=SIZES)
def query_kernel(
    q, near_rows, far_rows, table, sequence, position, picks, offset, borders, g, lse, delta, grad_q, grad_far, T, RING,
    STORE, pages, picked, shift, window, scale, H: tl.constexpr, SELECTION: tl.constexpr, DENSE: tl.constexpr,
    OFFSET: tl.constexpr, BORDERS: tl.constexpr, RATIO: tl.constexpr, PER_PAGE: tl.constexpr, ROW: tl.constexpr,
    ALIGN: tl.constexpr, FORMAT: tl.constexpr, NATIVE: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr,
    W: tl.constexpr, DOT: tl.constexpr, QUERIES: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Program = QUERIES neighbouring tokens x BLOCK_H heads -> grad_q [T, H, K]; adds to grad_far FP32 [B, C, K] where
    entries are picked."""
    tl.static_assert(DENSE and PER_PAGE == 0)
    GROUPS: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    M: tl.constexpr = QUERIES * BLOCK_H
    K: tl.constexpr = PLAIN + ROPE
    pid = tl.program_id(0)
    t = pid // GROUPS * QUERIES
    i = tl.arange(0, M)
    token, head = t + i // BLOCK_H, pid % GROUPS * BLOCK_H + i % BLOCK_H
    live = (token < T) & (head < H)
    place = tl.load(position + token, mask=token < T, other=-1)
    whose = tl.load(sequence + token, mask=token < T, other=-1)
    at = token.to(tl.int64) * H + head
    q0, q1 = load_queries(q + at * K, live, K, W, DOT)
    g0, g1 = load_queries(g + at * K, live, K, W, DOT)
    level = tl.load(lse + at, mask=live, other=0.0)
    share = tl.load(delta + at, mask=live, other=0.0)
    begin, low, high = borders_of(borders, token, T, SELECTION, BORDERS)
    a0, a1 = zero_rows(M, K, W)
    for r in range(QUERIES):
        b, first, last = run_of(sequence, position, t, r, T, QUERIES)
        a0, a1 = _tiles(
            b, t, first, last, place, live & (whose == b), q0, q1, g0, g1, level, share, a0, a1, grad_far,
            near_rows, far_rows, table, picks, offset, begin, low, high, RING, STORE, pages, picked, shift, window,
            scale, SELECTION, OFFSET, BORDERS, RATIO, ROW, ALIGN, FORMAT, NATIVE, PLAIN, ROPE, W, DOT, QUERIES, BLOCK_K,
        )  # fmt: skip
    store_rows(grad_q + at * K, live, a0, a1, K, W)


@triton.jit(do_not_specialize=["S", "N", "first", "shift", "window", "width"])
def row_kernel(
    q, rows, g, lse, delta, offset, words, borders, grad, S, N, first, shift, window, width, scale, H: tl.constexpr,
    K: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr, SELECTION: tl.constexpr, OFFSET: tl.constexpr,
    BORDERS: tl.constexpr, RATIO: tl.constexpr, SPLITS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Program = BLOCK_N rows [B, N, K] of one sequence x one split of the queries -> grad FP32 [SPLITS, B, N, K].

    SELECTION CAUSAL: rows are entries, MARKED: those that `words` [B, S, width] mark; else window rows, the first of
    which is token `shift`. Queries [B, S, H, K] are S * H rows; query s is token first + s. BORDERS: they see rows of
    their own documents alone (`borders_of`).
    """
    tile, b, split = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = n < N
    x0, x1 = load_queries(rows + (b * N + n) * K, inside, K, W, DOT)
    if SELECTION == _CAUSAL or SELECTION == _MARKED:  # noqa: SIM109 (Triton has no `in`)
        begin, end = (tile * BLOCK_N + 1) * RATIO - 1 - first, S
    else:
        begin = shift + tile * BLOCK_N - first
        end = tl.minimum(begin + BLOCK_N - 1 + window, S)
    start, stop = tl.maximum(begin, 0) * H, tl.maximum(end, 0) * H
    steps = tl.cdiv(tl.maximum(stop - start, 0), BLOCK_M)
    level = 0.0
    if OFFSET:
        level = tl.load(offset + b) * LOG2E
    a0, a1 = zero_rows(BLOCK_N, K, W)
    for step in range(split * steps // SPLITS, (split + 1) * steps // SPLITS):
        m = start + step * BLOCK_M + tl.arange(0, BLOCK_M)
        live = m < stop
        at = b * S * H + m
        q0, q1 = load_queries(q + at * K, live, K, W, DOT)
        g0, g1 = load_queries(g + at * K, live, K, W, DOT)
        token = first + m // H
        oldest, low, high = borders_of(borders, b * S + m // H, tl.num_programs(1) * S, SELECTION, BORDERS)
        if SELECTION == _CAUSAL:
            if BORDERS:
                seen = (n[:, None] >= low[None, :]) & (n[:, None] < high[None, :])
            else:
                seen = n[:, None] < ((token + 1) // RATIO)[None, :]
        elif SELECTION == _MARKED:
            word = tl.load(words + (b * S + m // H) * width + tile * BLOCK_N // 64, mask=live, other=0)
            seen = ((word[None, :] >> (n & 63)[:, None].to(tl.int64)) & 1) != 0
        else:
            age = token[None, :] - (shift + n)[:, None]
            seen = (age >= 0) & (age < window)
            if BORDERS:
                seen = seen & ((shift + n)[:, None] >= oldest[None, :])
        seen = seen & inside[:, None] & live[None, :]
        s = products(x0, x1, q0, q1, K, W) * (scale * LOG2E) + level
        reach = tl.load(lse + at, mask=live, other=0.0)
        p = tl.where(seen, tl.exp2(tl.where(seen, s, 0.0) - reach[None, :]), 0.0)
        share = tl.load(delta + at, mask=live, other=0.0)
        ds = p * (products(x0, x1, g0, g1, K, W) - share[None, :]) * scale
        a0, a1 = add_rows(p.to(DOT), g0, g1, a0, a1, K, W)
        a0, a1 = add_rows(ds.to(DOT), q0, q1, a0, a1, K, W)
    out = grad + ((split.to(tl.int64) * tl.num_programs(1) + b) * N + n) * K
    store_rows(out, inside, a0, a1, K, W)
