"""Routed experts that lie on several ranks: tokens go to their experts and come back.

Covers: cutting the stacked weights by expert, and the exchange around the operation. Does not cover: routing, how one
rank computes its experts (`octavo.kernels.experts`).

Each (token, expert) pair is a row that travels, with its weight and the expert's number; the expert's answer travels
back and is summed by token. The sum is in FP32, in the order of a token's choices.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from octavo.kernels.experts import experts
from octavo.kernels.experts.ref import Rounding
from octavo.kernels.route import Routing
from octavo.model.moe import Experts
from octavo.train.parallel.collectives import counts_from, exchange, swap


def spread_experts(module: Experts, group: dist.ProcessGroup) -> None:
    """Keep this rank's experts of the X of `module`, rank r those from r X / n on (n divides X), and let its forward
    pass exchange tokens."""
    for name, weight in list(module.named_parameters(recurse=False)):
        kept = weight.detach().chunk(group.size())[group.rank()].clone()
        setattr(module, name, nn.Parameter(kept, requires_grad=weight.requires_grad))
    module.forward = functools.partial(_exchanged, module, group)


def _exchanged(
    module: Experts, group: dist.ProcessGroup, x: Tensor, routing: Routing, *, limit: float | None,
    round_hidden: Rounding,
) -> Tensor:  # fmt: skip
    """As `Experts.forward`."""
    own = module.w1.shape[0]
    T, A = routing.experts.shape
    chosen = routing.experts.flatten()
    order = chosen.argsort(stable=True)
    ranks = group.size()
    sent = torch.bincount(chosen // own, minlength=ranks).tolist()
    taken = counts_from(sent, group, x.device)
    rows, weights = swap(
        (x.index_select(0, order // A), routing.weights.flatten().index_select(0, order)), sent, taken, group
    )
    numbers = exchange(chosen.index_select(0, order) % own, sent, taken, group)
    made = experts(
        rows, module.w1, module.w3, module.w2, chosen=numbers.unsqueeze(1), weights=weights.unsqueeze(1), limit=limit,
        round_hidden=round_hidden,
    )  # fmt: skip
    if len(rows) == 0:  # nothing else would lead back to the exchange, and the other ranks would wait
        made = cast(Tensor, _Joined.apply(made, rows, weights))
    (back,) = swap((made,), taken, sent, group)
    return back.index_select(0, order.argsort()).view(T, A, x.shape[1]).sum(1)


class _Joined(torch.autograd.Function):
    """`made`, with a gradient of zero for what it was made of."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, *parts: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.like = [part.detach() for part in parts]
        return made.view_as(made)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, *[torch.zeros_like(part) for part in ctx.like]
