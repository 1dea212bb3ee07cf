"""Routed experts: sorted groups, gathered weights for few tokens, and the masked dense form."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable
from octavo.kernels.experts.ref import Rounding, keep, swiglu


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def grouped(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w2: Tensor,
    *,
    chosen: Tensor,
    weights: Tensor,
    limit: float | None,
    round_hidden: Rounding = keep,
) -> Tensor:
    """Tokens sorted by expert; one set of products per expert that was hit, the rest over all tokens at once."""
    T, A = chosen.shape
    if T == 0:
        return torch.zeros(0, x.shape[1], dtype=_wide(x.dtype), device=x.device)
    order = chosen.flatten().argsort(stable=True)
    counts = torch.bincount(chosen.flatten(), minlength=w1.shape[0]).tolist()
    hit = [e for e, count in enumerate(counts) if count]
    cuts = [counts[e] for e in hit]
    parts = list(zip(hit, x.index_select(0, order // A).split(cuts), strict=True))
    gate = torch.cat([part @ w1[e].to(x.dtype).T for e, part in parts])
    up = torch.cat([part @ w3[e].to(x.dtype).T for e, part in parts])
    hidden = swiglu(gate, up, limit) * weights.flatten().index_select(0, order).to(x.dtype).unsqueeze(1)
    hiddens = round_hidden(hidden).split(cuts)
    out = torch.cat([part @ w2[e].to(x.dtype).T for e, part in zip(hit, hiddens, strict=True)])
    return out.index_select(0, order.argsort()).to(_wide(x.dtype)).view(T, A, -1).sum(1)


def gathered(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w2: Tensor,
    *,
    chosen: Tensor,
    weights: Tensor,
    limit: float | None,
    round_hidden: Rounding = keep,
) -> Tensor:
    """For a handful of tokens: gather the chosen experts' weights and use batched products."""
    T, A = chosen.shape
    flat = chosen.flatten()
    xs = x.repeat_interleave(A, dim=0).unsqueeze(-1)
    gate = torch.bmm(w1.index_select(0, flat).to(x.dtype), xs).squeeze(-1)
    up = torch.bmm(w3.index_select(0, flat).to(x.dtype), xs).squeeze(-1)
    hidden = swiglu(gate, up, limit) * weights.reshape(-1, 1).to(x.dtype)
    out = torch.bmm(w2.index_select(0, flat).to(x.dtype), round_hidden(hidden).unsqueeze(-1)).squeeze(-1)
    return out.to(_wide(x.dtype)).view(T, A, x.shape[1]).sum(1)


@fusable
def _shared_out(gate: Tensor, up: Tensor, share: Tensor, limit: float | None) -> Tensor:
    """The activation of all experts, [T, X, F], times each one's share [T, X]."""
    return swiglu(gate, up, limit).view(*share.shape, -1) * share.unsqueeze(-1)


def dense(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w2: Tensor,
    *,
    chosen: Tensor,
    weights: Tensor,
    limit: float | None,
    round_hidden: Rounding = keep,
) -> Tensor:
    """All experts at once, weighted by a [T, X] matrix that is zero where an expert was not chosen."""
    X, F_, D = w1.shape
    share = torch.zeros(x.shape[0], X, dtype=weights.dtype, device=x.device).scatter_add(1, chosen, weights)
    gate, up = x @ w1.to(x.dtype).view(X * F_, D).T, x @ w3.to(x.dtype).view(X * F_, D).T
    hidden = _shared_out(gate, up, share.to(x.dtype), limit)
    out = round_hidden(hidden).view(-1, X * F_) @ w2.to(x.dtype).permute(0, 2, 1).reshape(X * F_, D)
    return out.to(_wide(x.dtype))
