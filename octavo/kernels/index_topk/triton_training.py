"""Exact top-k of index scores while training on a GPU, as a bit an entry: `marked_topk`.

Covers: scores of whole rows of tokens, a tile of queries and entries a program and only where an entry is complete;
the k-th largest score of a query by halving the range of ordered integers, its scores in registers; the tie rule.
Scores are the sums of `ref` in another order. Does not cover: gradients (the choice has none), entries in pages.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.rows import Rows
from octavo.kernels.selection import WORD, Bounds, Marked

MOST = 32_768  # entries of which a program holds a query's scores
_ELEMENTS = 1 << 29  # scores held at once
_BLOCK = 64  # queries and entries of a tile
_WORD = tl.constexpr(WORD)


@triton.jit
def _score_kernel(
    q, w, keys, scores, S, C, N, begin, first, I: tl.constexpr, J: tl.constexpr, RATIO: tl.constexpr,
    BLOCK_J: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """BLOCK queries x BLOCK entries of one sequence; query s of `scores` [B, S, C] is token first + s. They are those
    of q [B, N, I, J] and w [B, N, I] from `begin` on."""
    b, tile = tl.program_id(1).to(tl.int64), tl.program_id(0)
    s, e = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK), tile * BLOCK + tl.arange(0, BLOCK)
    last = tl.minimum((tl.program_id(2) + 1) * BLOCK, S) - 1
    if tile * BLOCK < (first + last + 1) // RATIO:
        j = tl.arange(0, BLOCK_J)
        inside = (e < C)[:, None] & (j < J)[None, :]
        key = tl.load(keys + (b * C + e)[:, None] * J + j[None, :], mask=inside, other=0.0)
        row = b * N + begin + s
        total = tl.zeros((BLOCK, BLOCK), tl.float32)
        for i in range(I):
            at = q + (row * I + i)[:, None] * J + j[None, :]
            one = tl.load(at, mask=(s < S)[:, None] & (j < J)[None, :], other=0.0).to(key.dtype)
            dots = tl.dot(one, tl.trans(key), input_precision=PRECISION)
            weight = tl.load(w + row * I + i, mask=s < S, other=0.0).to(tl.float32)
            total += weight[:, None] * tl.maximum(dots, 0.0)
        to = scores + (b * S + s)[:, None] * C + e[None, :]
        tl.store(to, total, mask=(s < S)[:, None] & (e < C)[None, :])


@triton.jit
def _mark_kernel(
    scores, words, lowest, highest, S, C, N, begin, first, k, RATIO: tl.constexpr, BLOCK: tl.constexpr,
    BOUNDS: tl.constexpr,
):  # fmt: skip
    """A query: the k best of its complete entries, all where they are no more; of equal scores the lower entries.
    BOUNDS: of entries from `lowest` to below `highest` [B, N]."""
    s, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    e = tl.arange(0, BLOCK)
    visible = tl.minimum((first + s + 1) // RATIO, C)
    seen = e < visible
    if BOUNDS:
        low, high = tl.load(lowest + b * N + begin + s), tl.load(highest + b * N + begin + s)
        visible = high - low
        seen = (e >= low) & (e < high)
    score = tl.load(scores + (b * S + s) * C + e, mask=seen, other=float("-inf")) + 0.0  # no -0
    bits = score.to(tl.int32, bitcast=True)
    rank = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    least = tl.min(tl.where(seen, rank, 0x7FFFFFFF)).to(tl.int64)
    most = tl.max(tl.where(seen, rank, -0x80000000)).to(tl.int64) + 1
    search = (visible > k) & (most - least > 1)
    while search:  # at least k ranks are >= least, fewer than k are >= most
        middle = (least + most) >> 1
        count = tl.sum(((rank >= middle.to(tl.int32)) & seen).to(tl.int32))
        least = tl.where(count >= k, middle, least)
        most = tl.where(count >= k, most, middle)
        search = (count != k) & (most - least > 1)
    level = least.to(tl.int32)
    above = (rank > level) & seen
    equal = ((rank == level) & seen).to(tl.int32)
    room = k - tl.sum(above.to(tl.int32))
    chosen = above | ((equal > 0) & (tl.cumsum(equal, 0) <= room)) | (seen & (visible <= k))
    marks = tl.reshape(chosen.to(tl.int64), (BLOCK // _WORD, _WORD)) << tl.arange(0, _WORD).to(tl.int64)[None, :]
    word = tl.arange(0, BLOCK // _WORD)
    width = tl.cdiv(C, _WORD)
    tl.store(words + (b * N + begin + s) * width + word, tl.sum(marks, 1), mask=word < width)


def marked_topk(
    q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int, bounds: Bounds | None = None
) -> Marked:
    """q [B, S, I, J], w [B, S, I] and C <= `MOST` entries -> the marks of `index_topk`'s choice, among the entries
    within `bounds` if these are given; k >= 1."""
    (B, N, I, J), C = q.shape, keys.length
    ends = (q, q) if bounds is None else (bounds.first.contiguous(), bounds.stop.contiguous())
    words = torch.empty((B, N, triton.cdiv(C, WORD)), dtype=torch.int64, device=q.device)
    q, w, rows = q.detach().contiguous(), w.detach().contiguous(), keys.tile(0, C).detach().to(q.dtype).contiguous()
    some = max(1, min(N, _ELEMENTS // (B * C) // _BLOCK * _BLOCK))
    scores = torch.empty((B, some, C), dtype=torch.float32, device=q.device)
    block = max(WORD, triton.next_power_of_2(C))
    for begin in range(0, N, some):
        S = min(some, N - begin)
        _score_kernel[(triton.cdiv(C, _BLOCK), B, triton.cdiv(S, _BLOCK))](
            q, w, rows, scores, S, C, N, begin, first + begin, I=I, J=J, RATIO=ratio,
            BLOCK_J=max(16, triton.next_power_of_2(J)), BLOCK=_BLOCK,
            PRECISION="ieee" if q.dtype == torch.float32 else None, num_warps=4,
        )  # fmt: skip
        _mark_kernel[(S, B)](
            scores, words, *ends, S, C, N, begin, first + begin, k, RATIO=ratio, BLOCK=block, BOUNDS=bounds is not None,
            num_warps=max(1, min(16, block // 1024)),
        )  # fmt: skip
    return Marked(words, C, ratio)
