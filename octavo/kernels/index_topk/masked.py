"""Exact top-k as a mask over all entries, without a host synchronisation: for training on a GPU.

Covers: bounded memory (`_ELEMENTS` scores at a time), the tie rule. Does not cover: contexts whose mask is too large.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable
from octavo.kernels.index_topk.ref import index_scores, visible_counts
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Bounds

_ELEMENTS = 1 << 29


def masked_topk(
    q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int, bounds: Bounds | None = None
) -> Tensor:
    """[B, S, C] bool: `index_topk`'s choice, marked; among entries within `bounds`, if given. k < C."""
    B, S = q.shape[:2]
    q, w, C = q.detach(), w.detach(), keys.length
    block = max(1, _ELEMENTS // (B * C))
    parts = []
    for start in range(0, S, block):
        stop = min(start + block, S)
        scores = index_scores(q[:, start:stop], w[:, start:stop], keys.tile(0, C).detach())
        if bounds is not None:
            parts.append(_best_of(scores, bounds.of(slice(start, stop)).marks(C), k))
            continue
        limit = visible_counts(first + start, stop - start, ratio, q.device)
        parts.append(_best(scores, limit, k))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


@fusable
def _best(scores: Tensor, limit: Tensor, k: int) -> Tensor:
    """Everything above the k-th score, and of what equals it the lower entries, until there are k."""
    return _best_of(scores, torch.arange(scores.shape[-1], device=scores.device) < limit.view(1, -1, 1), k)


@fusable
def _best_of(scores: Tensor, visible: Tensor, k: int) -> Tensor:
    """The same of the entries that are `visible`, bool [B or 1, S, C]."""
    scores = torch.where(visible, scores, -torch.inf)
    threshold = scores.topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    above = scores > threshold
    equal = (scores == threshold) & visible
    room = k - above.sum(-1, keepdim=True, dtype=torch.int32)
    return above | (equal & (equal.cumsum(-1, dtype=torch.int32) <= room))
