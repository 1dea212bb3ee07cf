"""RMS normalisation on a GPU, one launch forward, one and a sum backward; once differentiable.

Covers: `rmsnorm` of rows of up to 32,768 values in BF16, FP16 or FP32, and the arithmetic of a row that other kernels
take over. Does not cover: FP64 (`ref`), rotation behind it (`octavo.kernels.rope.triton`).
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_WIDEST = 32_768
_TILE = 2048  # values that a program holds at least, in several rows where one is shorter
_PROGRAMS = 1056  # of the backward pass, eight a multiprocessor of an H100: each sums the weight's gradient of its rows
FLOATS = (torch.bfloat16, torch.float16, torch.float32)


@triton.jit
def inverse_rms(x, N, eps):
    """FP32 rows [R, N, zeros behind] -> 1 / RMS, [R, 1]."""
    return tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) / N + eps)


@triton.jit
def row_gradient(x, r, g, N):
    """Gradient of rows x whose normalised values x r have the gradient g."""
    return r * (g - x * (r * r * tl.sum(g * x, axis=1, keep_dims=True) / N))


@triton.jit
def _forward(x, weight, out, R, N, M, eps, WEIGHT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    n = tl.arange(0, BLOCK)[None, :]
    there = (row < R) & (n < N)
    value = tl.load(x + row * N + n, mask=there, other=0.0).to(tl.float32)
    value = value * inverse_rms(value, N, eps)
    if WEIGHT:
        value = value * tl.load(weight + row % M * N + n, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * N + n, value.to(out.dtype.element_ty), mask=there)


@triton.jit
def _backward(
    x, weight, g, dx, dweight, R, N, M, eps, programs, WEIGHT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    n = tl.arange(0, BLOCK)[None, :]
    acc = tl.zeros((1, BLOCK), tl.float32)
    if WEIGHT:
        own = tl.program_id(0) % M  # the weight's row: programs are a multiple of M, so that it stays
        w = tl.load(weight + own.to(tl.int64) * N + n, mask=n < N, other=0.0).to(tl.float32)
    for at in range(tl.program_id(0).to(tl.int64), R, programs * ROWS):
        row = at + (tl.arange(0, ROWS) * programs)[:, None]
        there = (row < R) & (n < N)
        value = tl.load(x + row * N + n, mask=there, other=0.0).to(tl.float32)
        grad = tl.load(g + row * N + n, mask=there, other=0.0).to(tl.float32)
        r = inverse_rms(value, N, eps)
        if WEIGHT:
            acc += tl.sum(grad * value * r, axis=0, keep_dims=True)
            grad = grad * w
        tl.store(dx + row * N + n, row_gradient(value, r, grad, N).to(dx.dtype.element_ty), mask=there)
    if WEIGHT:
        tl.store(dweight + tl.program_id(0).to(tl.int64) * N + n, acc, mask=n < N)


def rmsnorm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x [..., N], weight [N] or [M, N] with M the dimension before N, or None -> [..., N]; see the package docstring.

    Differentiable in x and weight. ValueError for a wrong shape or dtype.
    """
    N = x.shape[-1]
    if x.dtype not in FLOATS or not 1 <= N <= _WIDEST:
        raise ValueError(f"x is {x.dtype} with rows of {N}; BF16, FP16 or FP32 and 1 to {_WIDEST} are possible")
    if weight is not None and tuple(weight.shape) not in ((N,), tuple(x.shape[-2:])):
        raise ValueError(f"weight has the shape {tuple(weight.shape)}; x {tuple(x.shape)} needs its last one or two")
    return _RmsNorm.apply(x, weight, eps)


def rows_for(R: int, block: int) -> tuple[int, int]:
    """Rows that a program holds at once, and warps, for rows of `block` values."""
    rows = max(1, min(_TILE // block, triton.next_power_of_2(max(R, 1))))
    return rows, min(16, max(1, rows * block // 512))


def programs_for(R: int, rows: int, M: int) -> int:
    """Programs that share R rows in the backward pass, a multiple of M."""
    return max(1, min(triton.cdiv(R, rows * M), _PROGRAMS // M)) * M


class _RmsNorm(torch.autograd.Function):
    """Keeps x and weight; the root is taken again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        x = x.contiguous()
        weight = None if weight is None else weight.contiguous()
        N = x.shape[-1]
        R, M = x.numel() // N, 1 if weight is None else weight.numel() // N
        out = torch.empty_like(x)
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        if R:
            block = triton.next_power_of_2(N)
            rows, warps = rows_for(R, block)
            _forward[(triton.cdiv(R, rows),)](
                x, x if weight is None else weight, out, R, N, M, eps,
                WEIGHT=weight is not None, ROWS=rows, BLOCK=block, num_warps=warps,
            )  # fmt: skip
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        N = x.shape[-1]
        R, M = x.numel() // N, 1 if weight is None else weight.numel() // N
        dx = torch.empty_like(x)
        if R == 0:
            return dx, None if weight is None else torch.zeros_like(weight), None
        block = triton.next_power_of_2(N)
        rows, warps = rows_for(R, block)
        programs = programs_for(R, rows, M)
        dweight = x.new_empty((programs, N) if weight is not None else (0,), dtype=torch.float32)
        _backward[(programs,)](
            x, x if weight is None else weight, grads[0].contiguous(), dx, dweight, R, N, M, ctx.eps, programs,
            WEIGHT=weight is not None, ROWS=rows, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        if weight is None:
            return dx, None, None
        return dx, dweight.view(-1, M, N).sum(0).view(weight.shape).to(weight.dtype), None
