"""Routing in plain PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.chunk import products
from octavo.kernels.dispatch import fusable
from octavo.kernels.route import loops
from octavo.kernels.wide_linear import wide_linear

_MOST_EXPERTS = 1024  # that one launch ranks
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
    raw = products.linear(x, gate) if products.serves(x, gate) else wide_linear(x, gate)
    if dispatch.loops_on_cpu(raw):
        chosen = loops.choose(raw, top=top, scale=scale, normalise=normalise, bias=bias, table_rows=table_rows)
        return Routing(*chosen)
    scores = _scores(raw)
    experts = _best(raw.detach(), scores.detach(), top, bias) if table_rows is None else table_rows
    weights = scores.gather(1, experts)
    if normalise:
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-20)
    return Routing(experts, weights * scale, scores)


def _best(raw: Tensor, scores: Tensor, top: int, bias: Tensor | None) -> Tensor:
    """The `top` best experts of scores + bias, [T, top]."""
    if dispatch.trains_in_triton(raw, "route") and raw.dtype == torch.float32 and raw.shape[1] <= _MOST_EXPERTS:
        from octavo.kernels.route import triton  # there where a GPU is

        return triton.choose(raw, top=top, scale=1.0, normalise=False, bias=bias).experts
    ranked = scores if bias is None else scores + bias.to(scores.dtype)
    return ranked.sort(dim=-1, descending=True, stable=True).indices[:, :top]
