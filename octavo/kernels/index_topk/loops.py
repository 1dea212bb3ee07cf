"""Exact top-k in one pass over the entries, on the CPU: FP32, no gradient.

Covers: one sequence, any number of queries and entries. Of a tile of entries a query keeps those that beat its k-th
best so far, in ascending order; when there are more than 2 k the best k stay. Of equal scores the lower entry thus
stays. Products of a handful of queries are formed here, those of many by torch, a tile at a time.
Does not cover: several sequences in one call, scores that are NaN.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.floats import highest
from octavo.kernels.linear.loops import dot
from octavo.kernels.rows import Rows

_QUERIES = 128  # queries scored together: with a tile of keys their products stay in the second-level cache
_TILE = 1024
_BINS = 256
_HALVINGS = 12
_FEW = 8  # queries up to which the products are formed in the loop


def fits(q: Tensor, keys: Rows) -> bool:
    """Whether this body serves the call."""
    return dispatch.loops_on_cpu(q) and q.shape[0] == 1 and keys.length > 0


def loop_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """See the package docstring for the contract."""
    S = q.shape[1]
    picks = np.full((1, S, k), -1, dtype=np.int64)
    shares = w.float().contiguous().numpy()[0]
    for start in range(0, S, _QUERIES):
        stop = min(start + _QUERIES, S)
        seen = np.minimum(np.arange(first + start + 1, first + stop + 1) // ratio, keys.length)
        _block(q[0, start:stop], shares[start:stop], keys, seen, picks[0, start:stop])
    return torch.from_numpy(picks)


def _block(q: Tensor, shares: np.ndarray, keys: Rows, seen: np.ndarray, picks: np.ndarray) -> None:
    """Fill `picks` [S, k] of some queries [S, I, J], of which query s sees the entries below seen[s]."""
    S, I, J = q.shape
    k, end = picks.shape[1], int(seen[-1])
    level, count = np.full(S, -np.inf, dtype=np.float32), np.zeros(S, dtype=np.int64)
    tile = max(1, end if S <= _FEW and keys.together else min(end, _TILE * (_QUERIES // S)))
    room = 2 * k + tile
    best, entry = np.empty((S, room), dtype=np.float32), np.empty((S, room), dtype=np.int64)
    held = best, entry, level, count
    flat = q.reshape(S * I, J)
    for lo in range(0, end, tile):
        some = keys.tile(lo, min(lo + tile, end)).float()
        if S <= _FEW:
            _score(flat.numpy(), shares, some.contiguous().numpy()[0], lo, seen, *held, k)
        else:
            dots = (flat @ some[0].T).numpy().reshape(S, I, -1)
            in_halves(partial(_weigh, dots, shares, lo, seen, *held, k), S)
    _finish(best, entry, count, picks)


@loop
def _score(q, shares, keys, lo, seen, best, entry, level, count, k):
    S, I = shares.shape
    J, none, whole = keys.shape[1], np.float32(0.0), I // 4 * 4
    score = np.empty(len(keys), dtype=np.float32)
    for s in range(S):
        n = min(len(keys), seen[s] - lo)
        score[: max(n, 0)] = none
        for i in range(0, whole, 4):  # four heads share the loads of a key
            at = s * I + i
            q0, q1, q2, q3 = q[at], q[at + 1], q[at + 2], q[at + 3]
            w0, w1, w2, w3 = shares[s, i], shares[s, i + 1], shares[s, i + 2], shares[s, i + 3]
            for e in range(n):
                d0, d1, d2, d3 = none, none, none, none
                for j in range(J):
                    v = keys[e, j]
                    d0 += q0[j] * v
                    d1 += q1[j] * v
                    d2 += q2[j] * v
                    d3 += q3[j] * v
                score[e] += (w0 * max(d0, none) + w1 * max(d1, none)) + (w2 * max(d2, none) + w3 * max(d3, none))
        for i in range(whole, I):
            for e in range(n):
                score[e] += shares[s, i] * max(dot(q[s * I + i], keys[e]), none)
        _take(score, n, lo, s, best[s], entry[s], level, count, k)


@loop
def _weigh(dots, shares, lo, seen, best, entry, level, count, k, start, stop):
    I, none = shares.shape[1], np.float32(0.0)
    score = np.empty(dots.shape[2], dtype=np.float32)
    whole = I // 4 * 4
    for s in range(start, stop):
        n = min(dots.shape[2], seen[s] - lo)
        if n <= 0:
            continue
        score[:n] = none
        for i in range(0, whole, 4):
            w0, w1, w2, w3 = shares[s, i], shares[s, i + 1], shares[s, i + 2], shares[s, i + 3]
            for e in range(n):
                d0, d1, d2, d3 = dots[s, i, e], dots[s, i + 1, e], dots[s, i + 2, e], dots[s, i + 3, e]
                a = (w0 * d0 if d0 > 0 else none) + (w1 * d1 if d1 > 0 else none)
                score[e] += a + ((w2 * d2 if d2 > 0 else none) + (w3 * d3 if d3 > 0 else none))
        for i in range(whole, I):
            share = shares[s, i]
            for e in range(n):
                score[e] += share * dots[s, i, e] if dots[s, i, e] > 0 else none
        _take(score, n, lo, s, best[s], entry[s], level, count, k)


@part
def _take(score, n, lo, s, best, entry, level, count, k):
    """Offer the entries lo .. lo + n - 1 to query s."""
    held, bar = count[s], level[s]
    if held == 0 and n > 2 * k:
        bar = _below_the_best(score[:n], k)
    for e in range(n):  # written always, kept only when it beats the bar
        best[held], entry[held] = score[e], lo + e
        held += score[e] > bar
    if held > 2 * k:
        bar = _keep_best(best, entry, held, k)
        held = k
    count[s], level[s] = held, bar


@part
def _below_the_best(values, k):
    """A number that at least k of the values are greater than, and not many more where they lie apart.

    Counting is a pass of vector instructions, so that halving a span ten times costs less than ranking once.
    """
    high, found, low = highest(values), np.float32(-np.inf), np.float32(0.0)
    for e in range(len(values)):
        low += values[e]
    low /= np.float32(len(values))  # the mean: a first guess, not a bound
    for _ in range(_HALVINGS):
        middle, greater = np.float32(0.5) * low + np.float32(0.5) * high, np.float32(0.0)
        for e in range(len(values)):
            greater += np.float32(1.0) if values[e] > middle else np.float32(0.0)
        if greater < k:
            high = middle
        else:
            low = found = middle
            if greater <= k + k // 4:
                break
    return found


@part
def _keep_best(best, entry, held, k):
    """Move the k best of the first `held` to the front, order kept, lower entries first among equals; their least."""
    bar, room = _kth(best[:held], k), k
    for e in range(held):
        room -= best[e] > bar
    at = 0
    for e in range(held):
        tied = best[e] == bar and room > 0
        best[at], entry[at] = best[e], entry[e]
        at += best[e] > bar or tied
        room -= tied
    return bar


@part
def _kth(values, k):
    """The k-th largest: values are counted into bins of equal width, and only one bin is searched."""
    least, most = values[0], values[0]
    for v in values:
        least, most = min(least, v), max(most, v)
    if most == least:
        return least
    scale = np.float32(_BINS - 1) / (most - least)
    if not np.float32(0.0) < scale < np.float32(1e30):  # the range has no end, or no width to speak of
        return _select(values.copy(), k - 1)
    bins, counts = np.empty(len(values), dtype=np.int32), np.zeros(_BINS, dtype=np.int32)
    for e in range(len(values)):
        bins[e] = np.int32((values[e] - least) * scale)
        counts[bins[e]] += 1
    at, above = _BINS - 1, 0
    while above + counts[at] < k:
        above += counts[at]
        at -= 1
    work, n = np.empty(counts[at] + 1, dtype=np.float32), 0
    for e in range(len(values)):
        work[n] = values[e]
        n += bins[e] == at
    return _select(work[:n], k - 1 - above)


@part
def _select(work, rank):
    """The value that `rank` others come before in descending order (Hoare's selection; `work` is reordered)."""
    lo, hi = 0, len(work) - 1
    while lo < hi:
        pivot = work[(lo + hi) // 2]
        i, j = lo, hi
        while i <= j:
            while work[i] > pivot:
                i += 1
            while work[j] < pivot:
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                i += 1
                j -= 1
        if rank <= j:
            hi = j
        elif rank >= i:
            lo = i
        else:
            break
    return work[rank]


@loop
def _finish(best, entry, count, picks):
    k = picks.shape[1]
    for s in range(len(picks)):
        held = count[s]
        if held > k:
            _keep_best(best[s], entry[s], held, k)
            held = k
        for e in range(held):
            picks[s, e] = entry[s, e]
