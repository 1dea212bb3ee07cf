"""Attention mass of entries after the fact, from log sums: for bodies that keep no probability.

Covers: `mass_of` every n-th query, for all selections. Does not cover: the log sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Marked, Masked, Picked, Selection


def mass_of(
    q: Tensor, rows: Rows, selection: Selection, total: Tensor, *, first: int, scale: float, every: int
) -> Tensor:
    """The package's `mass`, detached FP32 [B, S // every, C or k], of q [B, S, H, K] and log sums with the sink
    [B, S, H] (natural)."""
    some = slice(every - 1, None, every)
    q, total = q.detach()[:, some], total.detach()[:, some]
    if isinstance(selection, Picked):
        index = selection.index[:, some]
        picked = rows.gather(index.clamp_min(0)).detach().to(q.dtype)
        return _shares(torch.matmul(q, picked.transpose(2, 3)), total, index >= 0, None, scale)
    entries = rows.tile(0, rows.length).detach().to(q.dtype)
    logits = torch.matmul(q.flatten(1, 2), entries.transpose(1, 2)).unflatten(1, q.shape[1:3])
    if isinstance(selection, Masked | Marked):
        return _shares(logits, total, selection.of(some), None, scale)
    assert isinstance(selection, Causal)
    if selection.bounds is not None:
        return _shares(logits, total, selection.bounds.of(some).marks(rows.length), selection.offset, scale)
    token = torch.arange(q.shape[1], device=q.device) * every + (first + every - 1)
    seen = torch.arange(rows.length, device=q.device) < ((token + 1) // selection.ratio).view(1, -1, 1)
    return _shares(logits, total, seen, selection.offset, scale)


@fusable
def _shares(products: Tensor, total: Tensor, seen: Tensor, offset: Tensor | None, scale: float) -> Tensor:
    """Probability of each entry summed over heads, [B, n, H, C] -> [B, n, C]; logits get `offset` [B] or [1] added."""
    logits = products.float() * scale
    if offset is not None:
        logits = logits + offset.view(-1, 1, 1, 1)
    p = torch.exp(logits - total.unsqueeze(-1)).sum(2)
    return torch.where(seen, p, 0.0)
