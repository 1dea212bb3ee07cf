"""Exchanges between ranks that gradients go back through.

Covers: rows sent from every rank to every rank (`swap`), rows of all ranks brought together (`gather`). Does not cover:
what is sent. NCCL and gloo both have what these need; a rank that sends or receives nothing takes part all the same,
forward and backward, or the others would wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, group: dist.ProcessGroup, sent: list[int], taken: list[int], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.group, ctx.sent, ctx.taken = group, sent, taken
        return tuple([exchange(t, sent, taken, group) for t in tensors])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # in one order on all ranks, whatever order the graph would take
        return (None, None, None, *[exchange(g, ctx.taken, ctx.sent, ctx.group) for g in grads])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, group: dist.ProcessGroup, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.group = group
        out = x.new_empty(group.size() * x.shape[0], *x.shape[1:])
        dist.all_gather_single(out, x.contiguous(), group=group)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        given = grad.float() if grad.dtype in (torch.bfloat16, torch.float16) else grad
        out = given.new_empty(grad.shape[0] // ctx.group.size(), *grad.shape[1:])
        dist.reduce_scatter_single(out, given.contiguous(), group=ctx.group)
        return None, out.to(grad.dtype)


def exchange(rows: Tensor, sent: list[int], taken: list[int], group: dist.ProcessGroup) -> Tensor:
    """As `swap`, of one tensor, without a gradient."""
    out = rows.new_empty(sum(taken), *rows.shape[1:])
    dist.all_to_all_single(out, rows.contiguous(), taken, sent, group=group)
    return out


def swap(
    tensors: Sequence[Tensor], sent: Sequence[int], taken: Sequence[int], group: dist.ProcessGroup
) -> tuple[Tensor, ...]:
    """Of each tensor the first sent[0] rows go to rank 0, the next sent[1] to rank 1, ..; returned are taken[0] rows of
    rank 0, then taken[1] of rank 1, ... Differentiable."""
    return _Swap.apply(group, list(sent), list(taken), *tensors)


def counts_from(sent: Sequence[int], group: dist.ProcessGroup, device: torch.device) -> list[int]:
    """How many rows each rank sends to this one, when this one sends sent[r] rows to rank r."""
    given = torch.tensor(sent, device=device)
    out = torch.empty_like(given)
    dist.all_to_all_single(out, given, group=group)
    return out.tolist()


def gather(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[B, n, ...] of every rank -> [B, ranks * n, ...], in the ranks' order; all have equally many. The gradient is
    summed over the ranks in FP32."""
    B, n = x.shape[:2]
    every = _Gather.apply(group, x)
    assert isinstance(every, Tensor)
    return every.unflatten(0, (-1, B)).transpose(0, 1).reshape(B, -1, *x.shape[2:])
