"""The exact best k of ordered scores, in two levels.

Covers: the choice among entries by way of the largest of every group of G entries. Does not cover: scores
(`triton_scores`), contexts whose groups do not fit a program (`triton`).

Let the k best groups be those with the largest peaks, the lower group first among equals. They hold the k best entries:
the k-th best entry is at least as large as the k-th peak p, since k groups have an entry of p or more. Entries above p
lie only in groups whose peak is above p, all of which are listed. If the k-th best equals p, of the entries that equal
p the lowest are wanted; those left out lie in groups behind every listed group of peak p, and the listed groups have k
entries of p or more already. So k * G entries are read instead of all, whatever the scores are.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.index_topk.triton_scores import LOWEST

HIGHEST = tl.constexpr(2**31 - 1)


@triton.jit
def _places(key, k, low):
    """Where the k largest of `key` [N] go in their order, -1 for the others, and a bound below which none of them lies.

    At least k of the keys are `low` or larger. The k-th largest is enclosed by halving: at least k keys reach `low`,
    fewer than k reach `high`. N <= 2^15: two counts share the 32 bits of one running sum.
    """
    high = tl.max(key, axis=0).to(tl.int64) + 1
    low = low.to(tl.int64)
    reached = tl.sum((key >= low.to(tl.int32)).to(tl.int32), axis=0)
    while (high - low > 1) & (reached != k):
        middle = (low + high) >> 1
        count = tl.sum((key >= middle.to(tl.int32)).to(tl.int32), axis=0)
        enough = count >= k
        low, high = tl.where(enough, middle, low), tl.where(enough, high, middle)
        reached = tl.where(enough, count, reached)
    above = key > (high - 1).to(tl.int32)
    equal = (key >= low.to(tl.int32)) & (above == 0)
    room = k - tl.sum(above.to(tl.int32), axis=0)
    before = tl.cumsum(above.to(tl.int32) * 65536 + equal.to(tl.int32), axis=0)
    taken = above | (equal & ((before & 65535) <= room))
    place = (before >> 16) + tl.minimum(before & 65535, room) - 1
    return tl.where(taken, place, -1), low.to(tl.int32)


@triton.jit
def _choose(keys, into, count, k, N: tl.constexpr):
    """Write the numbers of the k largest of `count` keys to `into`, ascending; a bound that k of them reach."""
    number = tl.arange(0, N)
    key = tl.load(keys + number, mask=number < count, other=LOWEST)
    least = tl.min(tl.where(number < count, key, HIGHEST), axis=0)
    place, low = _places(key, k, least)
    tl.store(into + place, number, mask=place >= 0)
    return low


@triton.jit
def identity_kernel(position, picks, pages, K: tl.constexpr, KP: tl.constexpr, PER_PAGE: tl.constexpr,
                    RATIO: tl.constexpr):  # fmt: skip
    """picks[t] = 0, 1, .. up to what query t sees, then -1: for tables of at most K entries."""
    t, i = tl.program_id(0).to(tl.int64), tl.arange(0, KP)
    seen = tl.minimum((tl.load(position + t) + 1) // RATIO, pages * PER_PAGE)
    tl.store(picks + t * K + i, tl.where(i < seen, i, -1), mask=i < K)


@triton.jit
def select_kernel(
    keys, peaks, listed, position, picks, pages, stride, peak_stride,
    K: tl.constexpr, KP: tl.constexpr, PER_PAGE: tl.constexpr, RATIO: tl.constexpr, G: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """picks[t]: the K best entries of query t, ascending. Program t: one query; N: groups of the table, filled up to a
    power of two; listed int32 [T, K] is scratch."""
    t = tl.program_id(0).to(tl.int64)
    seen = tl.minimum((tl.load(position + t) + 1) // RATIO, pages * PER_PAGE)
    if seen <= K:
        all_of_them = tl.arange(0, KP)
        tl.store(picks + t * K + all_of_them, tl.where(all_of_them < seen, all_of_them, -1), mask=all_of_them < K)
    elif G == 1:
        _choose(keys + t * stride, picks + t * K, seen, K, N)
    else:
        # With all groups listed nothing bounds their entries; else K peaks, and so K entries, reach the groups' bound.
        groups = tl.cdiv(seen, G)
        low = _choose(peaks + t * peak_stride, listed + t * K, groups, tl.minimum(groups, K), N)
        tl.debug_barrier()  # other threads of the program read the list
        i = tl.arange(0, KP * G)
        chosen = i // G < groups
        e = tl.load(listed + t * K + i // G, mask=chosen & (i // G < K), other=0) * G + i % G
        real = chosen & (i // G < K) & (e < seen)
        key = tl.load(keys + t * stride + e, mask=real, other=LOWEST)
        floor = tl.min(tl.where(real, key, HIGHEST), axis=0)
        place, _ = _places(key, K, tl.where(groups <= K, floor, low))
        tl.store(picks + t * K + place, e, mask=place >= 0)
