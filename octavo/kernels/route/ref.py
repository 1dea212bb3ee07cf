"""Routing in plain PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.dispatch import fusable
from octavo.kernels.route import loops
from octavo.kernels.wide_linear import wide_linear

_TINY = 1e-38  # below this the square root's slope is infinite in FP32 and its gradient NaN


class Routing(NamedTuple):
    """Chosen experts [T, A], their weights [T, A], and all scores [T, X]."""

    experts: Tensor
    weights: Tensor
    scores: Tensor


@fusable
def _scores(raw: Tensor) -> Tensor:
    """sqrt(softplus), with a finite slope at zero."""
    scores = F.softplus(raw)
    return torch.where(scores < _TINY, 0.0, scores.clamp_min(_TINY).sqrt())


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
    raw = wide_linear(x, gate)
    if dispatch.loops_on_cpu(raw):
        chosen = loops.choose(raw, top=top, scale=scale, normalise=normalise, bias=bias, table_rows=table_rows)
        return Routing(*chosen)
    scores = _scores(raw)
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
