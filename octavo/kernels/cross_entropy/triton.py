"""Cross entropy over a vocabulary on a GPU: one kernel between the product with the head and those of its gradients.

Covers: `cross_entropy` for rows in BF16, FP16 or FP32, once differentiable. The rows are taken in chunks; the kernel
reads a chunk's logits, then writes their gradients over them, so that the products of the gradients follow at once and
no logits are kept or made again. Memory beside the gradients: one chunk of logits in the rows' dtype. Does not cover:
a vocabulary shared among devices.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK_BYTES = 1 << 30  # of logits
_BLOCK, _WARPS = 4096, 8
_WHOLE = 16_384  # logits of a row that stay in registers between the loss and the gradients
_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


@triton.jit
def _loss_whole(logits, targets, weights, losses, correct, V, GRADIENT: tl.constexpr, BLOCK: tl.constexpr):
    """As `_loss`, for V <= BLOCK: the row is read once."""
    r = tl.program_id(0).to(tl.int64)
    v = tl.arange(0, BLOCK)
    there = v < V
    x = tl.load(logits + r * V + v, mask=there, other=float("-inf")).to(tl.float32)
    target = tl.load(targets + r)
    weight = tl.load(weights + r).to(tl.float32)
    own = tl.load(logits + r * V + target, mask=(target >= 0) & (target < V), other=float("nan")).to(tl.float32)
    highest = tl.max(x, axis=0)
    level = tl.where(highest == float("-inf"), 0.0, highest)
    e = tl.exp(x - level)
    total = tl.sum(e, axis=0)
    lse = level + tl.log(total)
    ahead = (x > own) | (x != x) | ((x == own) & (v < target))
    before = tl.sum((ahead & (v != target)).to(tl.int32), axis=0)
    tl.store(losses + r, weight * (lse - own))
    tl.store(correct + r, (before == 0).to(tl.int8))
    if GRADIENT:
        tl.debug_barrier()  # the target's logit is read before it is overwritten
        g = weight * (e / total - (v == target).to(tl.float32))
        tl.store(logits + r * V + v, g.to(logits.dtype.element_ty), mask=there)


@triton.jit
def _loss(logits, targets, weights, losses, correct, V, GRADIENT: tl.constexpr, BLOCK: tl.constexpr):
    """One row: its loss, whether no other logit comes before the target's, and the gradient in the logits' place."""
    r = tl.program_id(0).to(tl.int64)
    row = logits + r * V
    target = tl.load(targets + r)
    weight = tl.load(weights + r).to(tl.float32)
    own = tl.load(row + target, mask=(target >= 0) & (target < V), other=float("nan")).to(tl.float32)
    v = tl.arange(0, BLOCK)
    top = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    before = tl.zeros((BLOCK,), tl.int32)
    for at in range(0, V, BLOCK):
        x = tl.load(row + at + v, mask=at + v < V, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(top, x)
        # Where a lane has seen -inf alone, its exponents are taken from 0.
        level = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(top - level) + tl.exp(x - level)
        top = higher
        ahead = (x > own) | (x != x) | ((x == own) & (at + v < target))
        before += (ahead & (at + v != target)).to(tl.int32)
    highest = tl.max(top, axis=0)
    level = tl.where(highest == float("-inf"), 0.0, highest)
    lse = level + tl.log(tl.sum(total * tl.exp(top - level), axis=0))
    tl.store(losses + r, weight * (lse - own))
    tl.store(correct + r, (tl.sum(before, axis=0) == 0).to(tl.int8))
    if GRADIENT:
        for at in range(0, V, BLOCK):
            x = tl.load(row + at + v, mask=at + v < V, other=0.0).to(tl.float32)
            g = weight * (tl.exp(x - lse) - (at + v == target).to(tl.float32))
            tl.store(row + at + v, g.to(logits.dtype.element_ty), mask=at + v < V)


def cross_entropy(
    x: Tensor, head: Tensor, targets: Tensor, weights: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """See the package docstring for the contract; differentiable in x and head, whose gradients are made with the loss.

    `chunk` rows have their logits at once (default: as many as 1 GiB holds). A target outside the vocabulary gives NaN.
    ValueError for a wrong shape or dtype.
    """
    R, V = len(x), len(head)
    if x.dim() != 2 or x.dtype not in _FLOATS:
        raise ValueError(f"x is {x.dtype} {tuple(x.shape)}; it must be BF16, FP16 or FP32 of shape [R, D]")
    if head.dim() != 2 or head.shape[1] != x.shape[1] or V == 0:
        raise ValueError(f"head has the shape {tuple(head.shape)}; it must be [V, {x.shape[1]}], V at least 1")
    if tuple(targets.shape) != (R,) or targets.dtype != torch.int64:
        raise ValueError(f"targets is {targets.dtype} {tuple(targets.shape)}; it must be torch.int64 ({R},)")
    if tuple(weights.shape) != (R,):
        raise ValueError(f"weights has the shape {tuple(weights.shape)}; it must be ({R},)")
    if chunk is None:
        chunk = max(1, _CHUNK_BYTES // (V * x.element_size()))
    elif chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1")
    total, correct = _CrossEntropy.apply(x, head, targets.contiguous(), weights.contiguous(), chunk)
    return total, correct


class _CrossEntropy(torch.autograd.Function):
    """Keeps the gradients of x and head for a loss_sum of gradient 1."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        R, V = len(x), len(head)
        of_x, of_head = ctx.needs_input_grad[:2]
        losses = x.new_zeros(R, dtype=torch.float32)
        correct = torch.empty(R, dtype=torch.bool, device=x.device)
        weight = head.to(x.dtype)
        dx = torch.empty_like(x) if of_x else None
        dhead = None
        buffer = x.new_empty(min(chunk, R), V)
        for start in range(0, R, chunk):
            some = slice(start, min(start + chunk, R))
            logits = torch.mm(x[some], weight.T, out=buffer[: some.stop - start])
            block = triton.next_power_of_2(V)
            kernel, most = (_loss_whole, _WHOLE) if block <= _WHOLE else (_loss, _BLOCK)
            kernel[(len(logits),)](
                logits, targets[some], weights[some], losses[some], correct[some].view(torch.int8), V,
                GRADIENT=of_x or of_head, BLOCK=min(block, most), num_warps=_WARPS,
            )  # fmt: skip
            if dx is not None:
                torch.mm(logits, weight, out=dx[some])
            if of_head:
                part = _product(logits.T, x[some])
                dhead = part if dhead is None else dhead.add_(part)
        if of_head and R == 0:
            dhead = torch.zeros(head.shape, dtype=torch.float32, device=x.device)
        ctx.save_for_backward(dx, dhead)
        ctx.head_dtype = head.dtype
        ctx.mark_non_differentiable(correct)
        return losses.sum(), correct

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dx, dhead = ctx.saved_tensors
        # In place: the head's gradient may be the largest tensor of a step. A second backward pass raises.
        made_x = None if dx is None else dx.mul_(grads[0])
        return made_x, None if dhead is None else dhead.mul_(grads[0]).to(ctx.head_dtype), None, None, None


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b with an FP32 result."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a.float(), b.float())
