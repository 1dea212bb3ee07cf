"""The kernels of the forward pass: a few queries and a part of their keys, the union of the parts, masses.

Covers: one softmax over window rows, entries and sink, keys in tiles that may mix both kinds, one or several
neighbouring queries a program, keys cut into splits. Exponentials are powers of 2. Does not cover: shapes, checks and
sizes of tiles (`triton`), gradients (`triton_backward`).
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.sparse_attention.triton_rows import (
    CAUSAL,
    LISTED,
    MARKED,
    PICKED,
    add_rows,
    listed,
    load_queries,
    locate,
    products,
    read_rows,
    store_rows,
    zero_rows,
)

# Numbers that change from step to step: a kernel compiled anew for multiples of 16 would be a pause while serving.
SIZES = ["T", "RING", "STORE", "pages", "picked", "shift", "window"]
PROGRAMS = 132  # multiprocessors of an H100
LOG2E = tl.constexpr(1.4426950408889634)
_CAUSAL, _PICKED, _LISTED = tl.constexpr(CAUSAL), tl.constexpr(PICKED), tl.constexpr(LISTED)
_MARKED = tl.constexpr(MARKED)
_LOWEST = tl.constexpr(-1e30)  # finite, so that a row without keys yields weights of 0 and no NaN


@triton.jit
def keys_of(first, last, window, shift, pages, picked, STORE, RATIO: tl.constexpr, PER_PAGE: tl.constexpr,
            SELECTION: tl.constexpr, DENSE: tl.constexpr):  # fmt: skip
    """The list of keys of queries at positions first .. last: (first window token, window rows, all keys)."""
    lo = tl.maximum(first - window + 1, shift if DENSE else 0)
    near = tl.maximum(last + 1 - lo, 0)
    total = near
    if SELECTION == _CAUSAL or SELECTION == _MARKED:  # noqa: SIM109 (Triton has no `in`)
        total += tl.minimum((last + 1) // RATIO, STORE if PER_PAGE == 0 else pages * PER_PAGE)
    if SELECTION == _PICKED:
        total += picked
    if SELECTION == _LISTED:
        total = picked
    return lo, near, tl.where(last < 0, 0, total)


@triton.jit
def borders_of(borders, token, T, SELECTION: tl.constexpr, BORDERS: tl.constexpr):
    """Of queries `token` [M]: the first token of their document, its first entry, and the one behind the last complete
    one, from `borders` int32 [3, T]; zeros, which nothing reads, without BORDERS (entries: without CAUSAL)."""
    begin, low, high = token * 0, token * 0, token * 0
    if BORDERS:
        begin = tl.load(borders + token, mask=token < T, other=0)
        if SELECTION == _CAUSAL:
            low = tl.load(borders + (T + token), mask=token < T, other=0)
            high = tl.load(borders + (2 * T + token), mask=token < T, other=0)
    return begin, low, high


@triton.jit
def seen_by(place, mine, is_near, far, number, window, begin, low, high, RATIO: tl.constexpr, SELECTION: tl.constexpr,
            QUERIES: tl.constexpr, BORDERS: tl.constexpr):  # fmt: skip
    """Whether query m (position place[m], of this sequence where mine[m]) sees key n, [M, N]; MARKED: in the window.
    BORDERS: within its document (`borders_of`)."""
    if (QUERIES == 1 and SELECTION != _MARKED) and not BORDERS:
        return mine[:, None] & (is_near | far)[None, :]
    p, n = place[:, None], number[None, :]
    seen = is_near[None, :] & (n <= p) & (n > p - window)
    if BORDERS:
        seen = seen & (n >= begin[:, None])
        if SELECTION == _CAUSAL:
            seen = seen | (far[None, :] & (n >= low[:, None]) & (n < high[:, None]))
        if SELECTION == _PICKED:
            seen = seen | far[None, :]
    elif SELECTION == _CAUSAL:
        seen = seen | (far[None, :] & (n < (p + 1) // RATIO))
    return seen & mine[:, None]


@triton.jit
def whole_tiles(lo, near, total, BLOCK_K: tl.constexpr):
    """A list of keys with older tokens put before it, so that the entries begin with a tile."""
    more = tl.cdiv(near, BLOCK_K) * BLOCK_K - near
    return lo - more, near + more, tl.where(total > 0, total + more, 0)


@triton.jit
def marked(words, width, t, start, number, far, mine, QUERIES: tl.constexpr):
    """Whether the query m of the tokens t .. t + QUERIES - 1 has marked entry number[n], [M, N]; the tile begins with
    entry `start`. A word of `words` [T, width] holds 64 entries, and no tile lies in two of them."""
    M: tl.constexpr = mine.shape[0]
    token = (t + tl.arange(0, M) // (M // QUERIES)).to(tl.int64)
    word = tl.load(words + token * width + tl.maximum(start, 0) // 64, mask=mine, other=0)
    return (((word[:, None] >> (number & 63)[None, :].to(tl.int64)) & 1) != 0) & far[None, :]


@triton.jit
def run_of(sequence, position, t, r, T, QUERIES: tl.constexpr):
    """The run of one sequence's tokens that begins with token t + r: (sequence, first and last position).

    Last is -1 where no run begins there: padding, or the token before is of the same sequence.
    """
    i = t + tl.arange(0, QUERIES)
    inside = i < T
    all_b = tl.load(sequence + i, mask=inside, other=-1)
    all_p = tl.load(position + i, mask=inside, other=-1)
    at = t + r
    b = tl.load(sequence + at, mask=at < T, other=-1)
    p = tl.load(position + at, mask=at < T, other=-1)
    follows = tl.max(((all_b == b) & (all_p >= 0) & (i < at)).to(tl.int32), axis=0) > 0
    last = tl.max(tl.where((all_b == b) & (all_p >= 0), all_p, -1), axis=0)
    return b, p, tl.where(follows | (p < 0), -1, last)


@triton.jit
def _tiles(
    b, t, first, last, place, mine, q0, q1, m, l, a0, a1,
    ring, store, table, picks, offset, begin, low, high, RING, STORE, pages, picked, shift, window, scale, split,
    SELECTION: tl.constexpr, DENSE: tl.constexpr, OFFSET: tl.constexpr, BORDERS: tl.constexpr, RATIO: tl.constexpr,
    PER_PAGE: tl.constexpr,
    ROW: tl.constexpr, ALIGN: tl.constexpr, FORMAT: tl.constexpr, NATIVE: tl.constexpr, PLAIN: tl.constexpr,
    ROPE: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr, QUERIES: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The online softmax over this split's tiles of the keys of one run."""
    lo, near, total = keys_of(first, last, window, shift, pages, picked, STORE, RATIO, PER_PAGE, SELECTION, DENSE)
    if SELECTION == _MARKED:
        lo, near, total = whole_tiles(lo, near, total, BLOCK_K)
    level = 0.0
    if OFFSET:
        level = tl.load(offset + b) * LOG2E
    tiles = tl.cdiv(total, BLOCK_K)
    for tile in range(split * tiles // SPLITS, (split + 1) * tiles // SPLITS):
        j = tile * BLOCK_K + tl.arange(0, BLOCK_K)
        if SELECTION == _LISTED:
            row, is_near, ok = listed(picks, t, j, picked)
            seen = mine[:, None] & ok[None, :]
            ok = tl.full((BLOCK_K,), 1, tl.int1)
        else:
            row, is_near, far, number = locate(
                j, near, total, lo, b, t, table, picks, RING, STORE, pages, picked, shift, SELECTION, DENSE, PER_PAGE
            )
            seen = seen_by(
                place, mine, is_near, far, number, window, begin, low, high, RATIO, SELECTION, QUERIES, BORDERS
            )
            ok = is_near | far
            if SELECTION == _MARKED:
                seen = seen | marked(picks, picked, t, tile * BLOCK_K - near, number, far, mine, QUERIES)
        x0, x1 = read_rows(ring, store, is_near, row, ok, FORMAT, NATIVE, ROW, ALIGN, PLAIN, ROPE, W, DOT)
        s = products(q0, q1, x0, x1, PLAIN + ROPE, W) * (scale * LOG2E)
        if OFFSET:
            s += tl.where(is_near, 0.0, level)[None, :]
        s = tl.where(seen, s, float("-inf"))
        top = tl.maximum(m, tl.max(s, 1))
        shrink = tl.exp2(m - top)
        p = tl.exp2(s - top[:, None])
        l = l * shrink + tl.sum(p, 1)
        a0 = a0 * shrink[:, None]
        if PLAIN + ROPE > W:
            a1 = a1 * shrink[:, None]
        a0, a1 = add_rows(p.to(DOT), x0, x1, a0, a1, PLAIN + ROPE, W)
        m = top
    return m, l, a0, a1


@triton.jit(do_not_specialize=SIZES)
def attend_kernel(
    q, ring, store, table, sequence, position, picks, offset, borders, sink, out, lse, T, RING, STORE, pages, picked,
    shift, window, scale, H: tl.constexpr, SELECTION: tl.constexpr, DENSE: tl.constexpr, OFFSET: tl.constexpr,
    BORDERS: tl.constexpr, RATIO: tl.constexpr, PER_PAGE: tl.constexpr, ROW: tl.constexpr, ALIGN: tl.constexpr,
    FORMAT: tl.constexpr, NATIVE: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr, W: tl.constexpr,
    DOT: tl.constexpr, QUERIES: tl.constexpr, SPLITS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Program = QUERIES neighbouring tokens x BLOCK_H heads x one split of the keys.

    One split: out [T, H, K] and lse [T, H], both with the sink. Several: out FP32 [T, SPLITS, H, K], normalised within
    the split, and lse [T, SPLITS, H] of the split, -inf where it is empty (and nothing in out). lse is in base 2.
    """
    GROUPS: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    M: tl.constexpr = QUERIES * BLOCK_H
    K: tl.constexpr = PLAIN + ROPE
    pid = tl.program_id(0)
    split = pid % SPLITS
    t = pid // (SPLITS * GROUPS) * QUERIES
    i = tl.arange(0, M)
    token, head = t + i // BLOCK_H, pid // SPLITS % GROUPS * BLOCK_H + i % BLOCK_H
    live = (token < T) & (head < H)
    place = tl.load(position + token, mask=token < T, other=-1)
    whose = tl.load(sequence + token, mask=token < T, other=-1)
    at = token.to(tl.int64) * H + head
    q0, q1 = load_queries(q + at * K, live, K, W, DOT)
    begin, low, high = borders_of(borders, token, T, SELECTION, BORDERS)
    m = tl.full((M,), _LOWEST, tl.float32)
    l = tl.zeros((M,), tl.float32)
    a0, a1 = zero_rows(M, K, W)
    for r in range(QUERIES):
        b, first, last = run_of(sequence, position, t, r, T, QUERIES)
        m, l, a0, a1 = _tiles(
            b, t, first, last, place, (place >= 0) & (whose == b), q0, q1, m, l, a0, a1,
            ring, store, table, picks, offset, begin, low, high, RING, STORE, pages, picked, shift, window, scale,
            split, SELECTION, DENSE, OFFSET, BORDERS, RATIO, PER_PAGE, ROW, ALIGN, FORMAT, NATIVE, PLAIN, ROPE, W, DOT,
            QUERIES, SPLITS, BLOCK_K,
        )  # fmt: skip
    some = tl.where(l == 0, 1.0, l)
    share = 1.0 / some
    reach = tl.where(l == 0, float("-inf"), m + tl.log2(some))
    if SPLITS == 1:
        level = tl.load(sink + head, mask=head < H, other=0.0).to(tl.float32) * LOG2E
        top = tl.maximum(m, level)
        total = tl.where(l == 0, 1.0, l * tl.exp2(m - top) + tl.exp2(level - top))
        share = tl.where(l == 0, 0.0, tl.exp2(m - top) / total)
        reach = top + tl.log2(total)
        written = live
    else:
        at = (token.to(tl.int64) * SPLITS + split) * H + head
        written = live & (l != 0)
    tl.store(lse + at, reach, mask=live)
    store_rows(out + at * K, written, a0 * share[:, None], a1 * share[:, None], K, W)


@triton.jit
def combine_kernel(part, part_lse, sink, position, out, lse, H: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr,
                   SPLITS: tl.constexpr, ALL: tl.constexpr, BLOCK_S: tl.constexpr):  # fmt: skip
    """Program = WIDTH channels of one token and head: the splits' outputs weighed by their sums, the sink joining once.

    Every block of channels writes the same log sum.
    """
    pid = tl.program_id(0).to(tl.int64)
    t, h = pid // H, pid % H
    s = tl.arange(0, ALL)
    reach = tl.load(part_lse + (t * SPLITS + s) * H + h, mask=s < SPLITS, other=float("-inf"))
    level = tl.load(sink + h).to(tl.float32) * LOG2E
    top = tl.maximum(tl.maximum(tl.max(reach, 0), level), _LOWEST)
    total = tl.sum(tl.exp2(reach - top), 0) + tl.exp2(level - top)
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    o = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, SPLITS, BLOCK_S):
        i = start + tl.arange(0, BLOCK_S)
        at = (t * SPLITS + i) * H + h
        weight = tl.exp2(tl.load(part_lse + at, mask=i < SPLITS, other=float("-inf")) - top)
        mask = (weight != 0)[:, None] & (c < K)[None, :]
        o += tl.sum(tl.load(part + at[:, None] * K + c[None, :], mask=mask, other=0.0) * weight[:, None], 0)
    live = tl.load(position + t) >= 0
    total = tl.where(live, total, 1.0)
    tl.store(out + pid * K + c, tl.where(live, o / total, 0.0).to(out.dtype.element_ty), mask=c < K)
    tl.store(lse + pid, top + tl.log2(total))


def combine(parts: Tensor, reach: Tensor, sink: Tensor, position: Tensor, out: Tensor, lse: Tensor) -> None:
    """Join parts [T, splits, H, K], each normalised, with log sums `reach` FP32 [T, splits, H] in base 2, and the sink
    [H], into `out` [T, H, K] and `lse` FP32 [T, H]; zeros where `position` [T] is negative."""
    T, splits, H, K = parts.shape
    wide, queries = triton.next_power_of_2(K), T * H
    width = wide if queries >= 4 * PROGRAMS else min(wide, 128)
    combine_kernel[(queries, triton.cdiv(K, width))](
        parts, reach, sink, position, out, lse, H=H, K=K, WIDTH=width, SPLITS=splits,
        ALL=triton.next_power_of_2(splits), BLOCK_S=min(4096 // width, triton.next_power_of_2(splits)), num_warps=4,
    )  # fmt: skip


@triton.jit(do_not_specialize=[*SIZES, "listed"])
def mass_kernel(
    q, ring, store, table, sequence, position, picks, offset, lse, mass, T, listed, RING, STORE, pages, picked, shift,
    window, scale, H: tl.constexpr, SELECTION: tl.constexpr, DENSE: tl.constexpr, OFFSET: tl.constexpr,
    RATIO: tl.constexpr, PER_PAGE: tl.constexpr, ROW: tl.constexpr, ALIGN: tl.constexpr, FORMAT: tl.constexpr,
    NATIVE: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Program = one token x BLOCK_K of its entries: probabilities by the saved lse, summed over all heads in order."""
    t = tl.program_id(0)
    p = tl.load(position + t)
    b = tl.load(sequence + t)
    lo, near, total = keys_of(p, p, window, shift, pages, picked, STORE, RATIO, PER_PAGE, SELECTION, DENSE)
    e = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    row, is_near, far, number = locate(
        near + e, near, total, lo, b, t, table, picks, RING, STORE, pages, picked, shift, SELECTION, DENSE, PER_PAGE
    )
    found = tl.zeros((BLOCK_K,), tl.float32)
    if tl.max(far.to(tl.int32), 0) > 0:
        x0, x1 = read_rows(ring, store, is_near, row, far, FORMAT, NATIVE, ROW, ALIGN, PLAIN, ROPE, W, DOT)
        level = 0.0
        if OFFSET:
            level = tl.load(offset + b) * LOG2E
        for start in range(0, H, BLOCK_H):
            head = start + tl.arange(0, BLOCK_H)
            at = t.to(tl.int64) * H + head
            q0, q1 = load_queries(q + at * (PLAIN + ROPE), head < H, PLAIN + ROPE, W, DOT)
            s = products(q0, q1, x0, x1, PLAIN + ROPE, W) * (scale * LOG2E) + level
            reach = tl.load(lse + at, mask=head < H, other=float("inf"))
            found += tl.sum(tl.exp2(s - reach[:, None]), 0)
    tl.store(mass + t.to(tl.int64) * listed + e, tl.where(far, found, 0.0), mask=e < listed)
