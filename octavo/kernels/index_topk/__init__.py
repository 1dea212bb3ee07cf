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
`select_topk(...)`, same arguments -> the choice as a `Selection`: `Picked`, or `Masked` while training on a GPU.
Memory: a bounded number of score elements at a time, never [S, C] for long C.
"""

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.index_topk import loops, scan
from octavo.kernels.index_topk.loops import loop_topk
from octavo.kernels.index_topk.masked import masked_topk
from octavo.kernels.index_topk.ref import gathered_scores, index_scores, reference_topk
from octavo.kernels.index_topk.streaming import streaming_topk
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Masked, Picked, Selection


def index_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.body() is dispatch.Body.REFERENCE:
        chosen = reference_topk
    elif scan.fits(q, keys):
        chosen = scan.scan_topk
    else:
        chosen = loop_topk if loops.fits(q, keys) else streaming_topk
    return chosen(q, w, keys, first=first, ratio=ratio, k=k)


def select_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Selection:
    """See the package docstring for the contract."""
    if dispatch.trains_on_gpu(q):
        return Masked(masked_topk(q, w, keys, first=first, ratio=ratio, k=k))
    return Picked(index_topk(q, w, keys, first=first, ratio=ratio, k=k))


__all__ = ["gathered_scores", "index_scores", "index_topk", "select_topk"]
