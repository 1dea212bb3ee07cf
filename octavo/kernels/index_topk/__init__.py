"""Lightning indexer: scores of compressed entries and their exact streaming top-k.

Contract (report, CSA section; q and w as the indexer makes them):
`index_scores(q [B, S, I, J], w [B, S, I], keys [B, n, J]) -> [B, S, n]` = sum_i w_i relu(q_i . key), at least FP32,
differentiable.
`gathered_scores(q, w, keys [B, S, k, J]) -> [B, S, k]`: the same for keys chosen per query.
`index_topk(q, w, keys: Rows, *, first, ratio, k) -> [B, S, k] int64`: for query s (token first + s) the numbers of the
k best among the entries visible to it, 0 .. (first + s + 1) // ratio - 1, in no particular order; -1 fills up where
fewer are visible. Ties: the lower entry number wins, on every device. Scores may be negative. No entries give -1
everywhere, S = 0 an empty result. Not differentiable.
Bodies: `ref` sorts, `streaming` merges the best of spans of entries, `loops` passes over them once (CPU), `scan` does
so for many queries with compiled code that scores in FP32 only what bytes cannot rule out.
`two_level_topk(..., levels)`: an approximation that scores a coarse key for every block; see `levels`.
`select_topk(..., levels=None, bounds=None)` -> the choice as a `Selection`: `Picked`, while training on a GPU `Marked`,
or `Masked` without Triton or for very many entries; in two levels where `levels` are given, but no `bounds`, and no
gradient is asked for. `bounds`: visible are the entries within them (rows of several documents).
On the CPU `select_topk` counts its time, and so do compiled steps (`clock.index_seconds`).
Memory: a bounded number of score elements at a time, never [S, C] for long C.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.index_topk.clock import index_seconds, timed
from octavo.kernels.index_topk.exact import index_topk
from octavo.kernels.index_topk.levels import Levels, two_level_topk
from octavo.kernels.index_topk.masked import masked_topk
from octavo.kernels.index_topk.ref import bounded_topk, gathered_scores, index_scores
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Bounds, Masked, Picked, Selection


def select_topk(
    q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int, levels: Levels | None = None,
    bounds: Bounds | None = None,
) -> Selection:  # fmt: skip
    """See the package docstring for the contract."""
    with timed() if q.is_cpu else nullcontext():
        return _selected(q, w, keys, first=first, ratio=ratio, k=k, levels=levels, bounds=bounds)


def _selected(
    q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int, levels: Levels | None, bounds: Bounds | None
) -> Selection:  # fmt: skip
    if bounds is None and levels is not None and not torch.is_grad_enabled():
        return Picked(two_level_topk(q, w, keys, first=first, ratio=ratio, k=k, levels=levels))
    if dispatch.trains_in_triton(q, "index_topk") and q.dtype in dispatch.TRITON_FLOATS:
        from octavo.kernels.index_topk import triton_training  # triton is there where a GPU is

        if keys.length <= triton_training.MOST:
            return triton_training.marked_topk(q, w, keys, first=first, ratio=ratio, k=k, bounds=bounds)
    if dispatch.trains_on_gpu(q):
        return Masked(masked_topk(q, w, keys, first=first, ratio=ratio, k=k, bounds=bounds))
    if bounds is not None:
        return Picked(bounded_topk(q, w, keys, bounds, k=k))
    return Picked(index_topk(q, w, keys, first=first, ratio=ratio, k=k))


__all__ = ["Levels", "gathered_scores", "index_scores", "index_seconds", "index_topk", "select_topk", "two_level_topk"]
