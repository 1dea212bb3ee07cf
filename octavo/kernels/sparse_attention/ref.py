"""Attention with one full, masked score matrix; for tests and reference runs."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Marked, Masked, Selection


def reference_attention(
    q: Tensor,
    window_rows: Tensor,
    sink: Tensor,
    *,
    first: int,
    window: int,
    scale: float,
    rows: Rows | None,
    selection: Selection | None,
    mass_every: int,
    begin: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See the package docstring for the contract."""
    B, S, H, _ = q.shape
    N = window_rows.shape[1]
    token = torch.arange(first, first + S, device=q.device)
    key_token = torch.arange(first - (N - S), first + S, device=q.device)
    age = token.view(S, 1) - key_token.view(1, N)
    values = window_rows
    seen = ((age >= 0) & (age < window)).expand(B, S, N)
    if begin is not None:
        seen = seen & (key_token >= begin.unsqueeze(-1))
    if rows is not None:
        entries = rows.tile(0, rows.length)
        values = torch.cat((values, entries), dim=1)
        entry = torch.arange(rows.length, device=q.device)
        if isinstance(selection, Causal) and selection.bounds is not None:
            mask = selection.bounds.marks(rows.length)
        elif isinstance(selection, Causal):
            mask = (entry.view(1, 1, -1) < ((token + 1) // selection.ratio).view(1, S, 1)).expand(B, S, -1)
        elif isinstance(selection, Masked | Marked):
            mask = selection.of(slice(None))
        else:
            assert selection is not None
            mask = (selection.index.unsqueeze(-1) == entry).any(dim=2)
        seen = torch.cat((seen, mask), dim=2)
    logits = torch.einsum("bshk,bnk->bshn", q, values) * scale
    if isinstance(selection, Causal):
        logits = torch.cat((logits[..., :N], selection.shifted(logits[..., N:])), dim=-1)
    logits = logits.masked_fill(~seen.unsqueeze(2), -torch.inf)
    column = sink.to(logits.dtype).view(1, 1, H, 1).expand(B, S, H, 1)
    p = torch.cat((logits, column), dim=-1).softmax(dim=-1)[..., :-1]
    o = torch.einsum("bshn,bnk->bshk", p, values)
    if not mass_every or rows is None:
        return o, None
    mass = p[..., N:].detach().sum(2)[:, mass_every - 1 :: mass_every]
    if isinstance(selection, Causal | Masked | Marked):
        return o, mass
    assert selection is not None
    index = selection.index[:, mass_every - 1 :: mass_every]
    return o, mass.gather(2, index.clamp_min(0)).masked_fill(index < 0, 0)
