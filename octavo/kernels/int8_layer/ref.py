"""Routed experts and the shared one with INT8 weights, plain: every token on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.experts.ref import swiglu
from octavo.kernels.int8_linear.ref import Int8Weight, linear

Pair = tuple[Int8Weight, Int8Weight]


def experts(x: Tensor, routed: Pair, shared: Pair, *, chosen: Tensor, weights: Tensor, limit: float | None) -> Tensor:
    """See the package docstring for the contract."""
    rows = []
    for t in range(x.shape[0]):
        total = _through(x[t], shared, 0, x.new_ones(()), limit)
        for e, share in zip(chosen[t].tolist(), weights[t], strict=True):
            total = total + _through(x[t], routed, e, share, limit)
        rows.append(total)
    return torch.stack(rows) if rows else torch.zeros_like(x)


def _through(x: Tensor, pair: Pair, expert: int, share: Tensor, limit: float | None) -> Tensor:
    first, second = (Int8Weight(weight.codes[expert], weight.scale[expert]) for weight in pair)
    gate, up = linear(x, first).chunk(2)
    return linear(swiglu(gate, up, limit) * share, second)
