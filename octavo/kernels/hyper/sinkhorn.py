"""Sinkhorn's iterations for a GPU: one launch forward, one backward, a token's matrix staying in registers.

Covers: CUDA tensors (and the interpreter in tests), FP32, matrices whose width is a power of two; `logits_gradient`,
both ways in one launch where the forward pass kept nothing. Does not cover: other devices and widths (`ref.sinkhorn`).

Every half step divides rows or columns by their sums. The sums are kept, [2 iters - 1, M, T]; the backward pass gets
each half step's input back as output times sum, so no matrix but the last is kept.
"""

# A launch passes plain integers where a kernel declares constants.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 64


@triton.jit
def _rounds(x, sum_at, inside, T, eps, ITERS: tl.constexpr, M: tl.constexpr):
    """Logits x [BLOCK, M, M] -> the matrices; the sums of all half steps go to `sum_at`."""
    x = tl.exp(x - tl.max(x, axis=2, keep_dims=True))
    c = x / tl.sum(x, axis=2, keep_dims=True) + eps
    s = tl.sum(c, axis=1) + eps
    tl.store(sum_at, s, mask=inside[:, None])
    c = c / s[:, None, :]
    for n in range(1, ITERS):
        s = tl.sum(c, axis=2) + eps
        tl.store(sum_at + (2 * n - 1) * M * T, s, mask=inside[:, None])
        c = c / s[:, :, None]
        s = tl.sum(c, axis=1) + eps
        tl.store(sum_at + 2 * n * M * T, s, mask=inside[:, None])
        c = c / s[:, None, :]
    return c


@triton.jit
def _rounds_back(g, c, sum_at, inside, T, eps, ITERS: tl.constexpr, M: tl.constexpr):
    """The gradient of the logits from that of the matrices c [BLOCK, M, M] and the sums of the half steps."""
    for back in range(1, ITERS):
        n = ITERS - back
        s = tl.load(sum_at + 2 * n * M * T, mask=inside[:, None], other=1.0)[:, None, :]
        g = (g - tl.sum(g * c, axis=1, keep_dims=True)) / s
        c = c * s
        s = tl.load(sum_at + (2 * n - 1) * M * T, mask=inside[:, None], other=1.0)[:, :, None]
        g = (g - tl.sum(g * c, axis=2, keep_dims=True)) / s
        c = c * s
    s = tl.load(sum_at, mask=inside[:, None], other=1.0)[:, None, :]
    g = (g - tl.sum(g * c, axis=1, keep_dims=True)) / s
    p = c * s - eps
    return p * (g - tl.sum(g * p, axis=2, keep_dims=True))


@triton.jit
def _forward(logits, out, sums, T, eps, ITERS: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, M)
    at = t[:, None, None] * (M * M) + lane[None, :, None] * M + lane[None, None, :]
    inside = t < T
    x = tl.load(logits + at, mask=inside[:, None, None], other=0.0)
    sum_at = sums + lane[None, :] * T + t[:, None]
    tl.store(out + at, _rounds(x, sum_at, inside, T, eps, ITERS, M), mask=inside[:, None, None])


@triton.jit
def _backward(grad, out, sums, result, T, eps, ITERS: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, M)
    at = t[:, None, None] * (M * M) + lane[None, :, None] * M + lane[None, None, :]
    inside = t < T
    g = tl.load(grad + at, mask=inside[:, None, None], other=0.0)
    c = tl.load(out + at, mask=inside[:, None, None], other=0.0)
    sum_at = sums + lane[None, :] * T + t[:, None]
    tl.store(result + at, _rounds_back(g, c, sum_at, inside, T, eps, ITERS, M), mask=inside[:, None, None])


@triton.jit
def _both(
    kept, base, scale, grad, sums, result, T, eps, ITERS: tl.constexpr, M: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, M)
    entry = lane[:, None] * M + lane[None, :]
    at = t[:, None, None] * (M * M) + entry[None, :, :]
    inside = t < T
    m = tl.load(kept + t[:, None, None].to(tl.int64) * WIDTH + 2 * M + entry[None, :, :], mask=inside[:, None, None],
                other=0.0)  # fmt: skip
    z = m * tl.load(scale + 2).to(tl.float32) + tl.load(base + 2 * M + entry).to(tl.float32)[None, :, :]
    sum_at = sums + lane[None, :] * T + t[:, None]
    c = _rounds(z, sum_at, inside, T, eps, ITERS, M)
    g = tl.load(grad + at, mask=inside[:, None, None], other=0.0)
    tl.debug_barrier()  # the sums are read in the order of the writes, maybe by other lanes of the program
    tl.store(result + at, _rounds_back(g, c, sum_at, inside, T, eps, ITERS, M), mask=inside[:, None, None])


class Sinkhorn(torch.autograd.Function):
    """`ref.sinkhorn` of logits [T, M, M] FP32."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, iters: int, eps: float) -> Tensor:
        logits = logits.contiguous()
        T, M, _ = logits.shape
        out, sums = torch.empty_like(logits), logits.new_empty(2 * iters - 1, M, T)
        if T:
            _forward[(triton.cdiv(T, _BLOCK),)](logits, out, sums, T, eps, ITERS=iters, M=M, BLOCK=_BLOCK)
        ctx.save_for_backward(out, sums)
        ctx.iters, ctx.eps = iters, eps
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        out, sums = ctx.saved_tensors
        T, M, _ = out.shape
        result, grad = torch.empty_like(out), grads[0].contiguous()
        if T:
            grid = (triton.cdiv(T, _BLOCK),)
            _backward[grid](grad, out, sums, result, T, ctx.eps, ITERS=ctx.iters, M=M, BLOCK=_BLOCK)
        return result, None, None


def logits_gradient(kept: Tensor, base: Tensor, scale: Tensor, grad: Tensor, *, iters: int, eps: float) -> Tensor:
    """The gradient [T, M, M] FP32 of the logits kept[:, 2 M :] scale[2] + base[2 M :] from that of their matrices.

    kept FP32 [T, at least M (2 + M)], base [M (2 + M)], scale [3], grad FP32 [T, M, M]; all contiguous, T at least 1.
    """
    T, M, _ = grad.shape
    sums, result = grad.new_empty(2 * iters - 1, M, T), torch.empty_like(grad)
    _both[(triton.cdiv(T, _BLOCK),)](
        kept, base, scale, grad, sums, result, T, eps, ITERS=iters, M=M, WIDTH=kept.shape[1], BLOCK=_BLOCK
    )
    return result
