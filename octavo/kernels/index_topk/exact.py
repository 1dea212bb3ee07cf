"""Exact top-k: the choice among its bodies. The contract is in the package docstring."""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.index_topk import loops, scan
from octavo.kernels.index_topk.ref import reference_topk
from octavo.kernels.index_topk.streaming import streaming_topk
from octavo.kernels.rows import Rows


def index_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.body() is dispatch.Body.REFERENCE:
        chosen = reference_topk
    elif scan.fits(q, keys):
        chosen = scan.scan_topk
    elif scan.fits_few(q, keys):
        chosen = scan.few_topk
    else:
        chosen = loops.loop_topk if loops.fits(q, keys) else streaming_topk
    return chosen(q, w, keys, first=first, ratio=ratio, k=k)
