"""Norm and rotation of rows on a GPU, one launch each way; once differentiable.

Covers: `norm_rotate` and `rotate` of rows [T, H, N] or [T, N] with one angle table [T, P / 2] for all heads of a token,
in BF16, FP16 or FP32, and `turn`, the rotation of rows in registers. Does not cover: tables that differ between heads,
FP64 (`ref`). FP32 inside, one rounding.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.rmsnorm.triton import FLOATS, inverse_rms, programs_for, row_gradient, rows_for

_WIDEST = 8192


@triton.jit
def turn(x, cos, sin, t, ok, P: tl.constexpr, N, SIGN: tl.constexpr):
    """Rotate channels N - P .. N - 1 of FP32 rows x [R, BLOCK] by the angles of tokens t [R, 1], tables [T, P / 2];
    SIGN -1 turns back. Rows where not `ok` [R, 1] and channels before N - P stay as they are."""
    R: tl.constexpr = x.shape[0]
    HALF: tl.constexpr = x.shape[1] // 2
    even, odd = tl.split(tl.reshape(x, (R, HALF, 2)))
    pair = tl.arange(0, HALF)[None, :] - (N - P) // 2
    turning = ok & (pair >= 0) & (pair < P // 2)
    c = tl.load(cos + t * (P // 2) + pair, mask=turning, other=1.0).to(tl.float32)
    s = tl.load(sin + t * (P // 2) + pair, mask=turning, other=0.0).to(tl.float32) * SIGN
    first = tl.where(turning, even * c - odd * s, even)
    second = tl.where(turning, even * s + odd * c, odd)
    return tl.reshape(tl.join(first, second), (R, 2 * HALF))


@triton.jit
def _forward(
    x, weight, cos, sin, out, R, N, H, eps, P: tl.constexpr, NORM: tl.constexpr, WEIGHT: tl.constexpr,
    SIGN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    n = tl.arange(0, BLOCK)[None, :]
    ok = row < R
    there = ok & (n < N)
    value = tl.load(x + row * N + n, mask=there, other=0.0).to(tl.float32)
    if NORM:
        value = value * inverse_rms(value, N, eps)
    if WEIGHT:
        value = value * tl.load(weight + n, mask=n < N, other=0.0).to(tl.float32)
    value = turn(value, cos, sin, row // H, ok, P, N, SIGN)
    tl.store(out + row * N + n, value.to(out.dtype.element_ty), mask=there)


@triton.jit
def _backward(
    x, weight, cos, sin, g, dx, dweight, R, N, H, eps, programs,
    P: tl.constexpr, WEIGHT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The backward of norm and rotation: the gradient is turned back, then goes through the norm."""
    n = tl.arange(0, BLOCK)[None, :]
    acc = tl.zeros((1, BLOCK), tl.float32)
    if WEIGHT:
        w = tl.load(weight + n, mask=n < N, other=0.0).to(tl.float32)
    for at in range(tl.program_id(0).to(tl.int64) * ROWS, R, programs * ROWS):
        row = at + tl.arange(0, ROWS)[:, None]
        ok = row < R
        there = ok & (n < N)
        value = tl.load(x + row * N + n, mask=there, other=0.0).to(tl.float32)
        grad = tl.load(g + row * N + n, mask=there, other=0.0).to(tl.float32)
        grad = turn(grad, cos, sin, row // H, ok, P, N, -1)
        r = inverse_rms(value, N, eps)
        if WEIGHT:
            acc += tl.sum(grad * value * r, axis=0, keep_dims=True)
            grad = grad * w
        tl.store(dx + row * N + n, row_gradient(value, r, grad, N).to(dx.dtype.element_ty), mask=there)
    if WEIGHT:
        tl.store(dweight + tl.program_id(0).to(tl.int64) * N + n, acc, mask=n < N)


def norm_rotate(x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, *, eps: float) -> Tensor:
    """RMS norm of rows x [T, H, N] or [T, N] with weight [N] or None, then rotation by cos and sin [T, P / 2] (or
    [T, 1, P / 2]), rounded once. Differentiable in x and weight. ValueError for a wrong shape or dtype."""
    _check(x, cos, sin)
    if weight is not None and tuple(weight.shape) != (x.shape[-1],):
        raise ValueError(f"weight has the shape {tuple(weight.shape)}; it must be ({x.shape[-1]},)")
    return _NormRotate.apply(x, weight, cos, sin, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool = False) -> Tensor:
    """Rotation (back with `inverse`) of rows x [T, H, N] or [T, N] by cos and sin [T, P / 2] (or [T, 1, P / 2]).

    Differentiable in x. ValueError for a wrong shape or dtype.
    """
    _check(x, cos, sin)
    return _Rotate.apply(x, cos, sin, inverse)


class _NormRotate(torch.autograd.Function):
    """Keeps the inputs; the root is taken again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
        ctx.save_for_backward(x, weight, cos, sin)
        ctx.eps = eps
        return _launch(x, weight, cos, sin, eps=eps, norm=True, inverse=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, cos, sin = ctx.saved_tensors
        R, N, H = _rows(x)
        dx = torch.empty_like(x)
        if R == 0:
            return dx, None if weight is None else torch.zeros_like(weight), None, None, None
        block = triton.next_power_of_2(N)
        rows, warps = rows_for(R, block)
        programs = programs_for(R, rows, 1)
        dweight = x.new_empty((programs, N) if weight is not None else (0,), dtype=torch.float32)
        _backward[(programs,)](
            x, x if weight is None else weight, cos, sin, grads[0].contiguous(), dx, dweight, R, N, H, ctx.eps,
            programs, P=2 * cos.shape[-1], WEIGHT=weight is not None, ROWS=rows, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        return dx, None if weight is None else dweight.sum(0).to(weight.dtype), None, None, None


class _Rotate(torch.autograd.Function):
    """The gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, inverse: bool) -> Tensor:
        cos, sin = cos.contiguous(), sin.contiguous()
        ctx.save_for_backward(cos, sin)
        ctx.inverse = inverse
        return _launch(x.contiguous(), None, cos, sin, eps=0.0, norm=False, inverse=inverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        g = grads[0].contiguous()
        return _launch(g, None, *ctx.saved_tensors, eps=0.0, norm=False, inverse=not ctx.inverse), None, None, None


def _rows(x: Tensor) -> tuple[int, int, int]:
    """Rows, their width, and rows of a token."""
    return x.numel() // x.shape[-1], x.shape[-1], x.shape[1] if x.dim() == 3 else 1


def _launch(
    x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, *, eps: float, norm: bool, inverse: bool
) -> Tensor:
    out = torch.empty_like(x)
    R, N, H = _rows(x)
    if R == 0:
        return out
    block = triton.next_power_of_2(N)
    rows, warps = rows_for(R, block)
    _forward[(triton.cdiv(R, rows),)](
        x, x if weight is None else weight, cos, sin, out, R, N, H, eps, P=2 * cos.shape[-1], NORM=norm,
        WEIGHT=weight is not None, SIGN=-1 if inverse else 1, ROWS=rows, BLOCK=block, num_warps=warps,
    )  # fmt: skip
    return out


def _check(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """ValueError for rows or tables that the kernels would read wrongly."""
    if x.dim() not in (2, 3) or x.dtype not in FLOATS or not 2 <= x.shape[-1] <= _WIDEST or x.shape[-1] % 2:
        raise ValueError(
            f"x is {x.dtype} {tuple(x.shape)}; it must be BF16, FP16 or FP32 of shape [T, H, N] or [T, N], N even, "
            f"2 to {_WIDEST}"
        )
    half = cos.shape[-1]
    if cos.numel() != x.shape[0] * half or not 1 <= half <= x.shape[-1] // 2:
        raise ValueError(f"cos has the shape {tuple(cos.shape)}; it must be [{x.shape[0]}, 1 to {x.shape[-1] // 2}]")
    if sin.shape != cos.shape:
        raise ValueError(f"sin has the shape {tuple(sin.shape)}; cos has {tuple(cos.shape)}")
