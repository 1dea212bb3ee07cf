"""Routing in plain PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-38  # below this the square root's slope is infinite in FP32 and its gradient NaN


class Routing(NamedTuple):
    """Chosen experts [T, A], their weights [T, A], and all scores [T, X]."""

    experts: Tensor
    weights: Tensor
    scores: Tensor


def route(
    x: Tensor,
    gate: Tensor,
    *,
    top: int,
    scale: float,
    normalise: bool,
    bias: Tensor | None = None,
    table_rows: Tensor | None = None,
) -> Routing:
    """See the package docstring for the contract."""
    wide = x if x.dtype == torch.float64 else x.float()
    scores = F.softplus(F.linear(wide, gate.to(wide.dtype)))
    scores = torch.where(scores < _TINY, 0.0, scores.clamp_min(_TINY).sqrt())
    if table_rows is None:
        ranked = (scores.detach() if bias is None else scores.detach() + bias.to(scores.dtype)).sort(
            dim=-1, descending=True, stable=True
        )
        experts = ranked.indices[:, :top]
    else:
        experts = table_rows
    weights = scores.gather(1, experts)
    if normalise:
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-20)
    return Routing(experts, weights * scale, scores)
