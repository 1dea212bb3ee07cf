"""Engram's gates and what they let into the streams, one launch each way; once differentiable.

Covers: `recall` of 1, 2, 4 .. streams of up to 16,384 channels in BF16, FP16 or FP32; sums keep their order. Does not
cover: the convolution behind the gates, streams without a power of two (`gate`).

A program holds all streams of a token, so that streams, keys and value are read once and the gradient of the streams is
added to on its way.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.engram_lookup.triton import check_gains, gated

_PROGRAMS = 1056  # of the backward pass: eight a multiprocessor of an H100


@triton.jit
def _products(q, k, wq, wk, D, root, eps):
    """Rows [M, BLOCK] -> their inverse roots and their scaled products s, [M, 1] each."""
    rq = tl.rsqrt(tl.sum(q * q, axis=1, keep_dims=True) / D + eps)
    rk = tl.rsqrt(tl.sum(k * k, axis=1, keep_dims=True) / D + eps)
    return rq, rk, tl.sum(q * wq * (k * wk), axis=1, keep_dims=True) * rq * rk * root


@triton.jit
def _forward(streams, both, q_weight, k_weight, out, D, root, eps, M: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    m, d = tl.arange(0, M)[:, None], tl.arange(0, BLOCK)[None, :]
    at, there = m * D + d, (d < D) & (m < M)
    row = both + t * (M + 1) * D
    q = tl.load(streams + t * M * D + at, mask=there, other=0.0).to(tl.float32)
    k = tl.load(row + at, mask=there, other=0.0).to(tl.float32)
    v = tl.load(row + M * D + d, mask=d < D, other=0.0).to(tl.float32)
    wq = tl.load(q_weight + at, mask=there, other=0.0).to(tl.float32)
    wk = tl.load(k_weight + at, mask=there, other=0.0).to(tl.float32)
    _, _, s = _products(q, k, wq, wk, D, root, eps)
    update = (gated(s) * v).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + t * M * D + at, (q + update).to(out.dtype.element_ty), mask=there)


@triton.jit
def _backward(
    streams, both, q_weight, k_weight, g, dstreams, dboth, gains, T, D, root, eps, programs,
    M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A token after another; gains [programs, 2, M, D] are the program's sums of the gains' gradients."""
    first = tl.program_id(0).to(tl.int64)
    m, d = tl.arange(0, M)[:, None], tl.arange(0, BLOCK)[None, :]
    at, there = m * D + d, (d < D) & (m < M)
    wq = tl.load(q_weight + at, mask=there, other=0.0).to(tl.float32)
    wk = tl.load(k_weight + at, mask=there, other=0.0).to(tl.float32)
    dwq = tl.zeros((M, BLOCK), tl.float32)
    dwk = tl.zeros((M, BLOCK), tl.float32)
    for t in range(first, T, programs):
        row = t * (M + 1) * D
        q = tl.load(streams + t * M * D + at, mask=there, other=0.0).to(tl.float32)
        k = tl.load(both + row + at, mask=there, other=0.0).to(tl.float32)
        v = tl.load(both + row + M * D + d, mask=d < D, other=0.0).to(tl.float32)
        grad = tl.load(g + t * M * D + at, mask=there, other=0.0).to(tl.float32)
        rq, rk, s = _products(q, k, wq, wk, D, root, eps)
        gate = gated(s)
        size = tl.abs(s)
        slope = tl.where(size >= 1e-6, 0.5 * tl.rsqrt(tl.maximum(size, 1e-6)), 0.0)
        ds = tl.sum(grad * v, axis=1, keep_dims=True) * gate * (1.0 - gate) * slope
        c = ds * rq * rk * root
        dwq += c * q * k * wk
        dwk += c * q * k * wq
        dq = grad + c * k * wq * wk - ds * s * rq * rq / D * q
        dk = c * q * wq * wk - ds * s * rk * rk / D * k
        dv = tl.sum(gate * grad, axis=0, keep_dims=True)
        tl.store(dstreams + t * M * D + at, dq.to(dstreams.dtype.element_ty), mask=there)
        tl.store(dboth + row + at, dk.to(dboth.dtype.element_ty), mask=there)
        tl.store(dboth + row + M * D + d, dv.to(dboth.dtype.element_ty), mask=d < D)
    own = gains + first * (2 * M * D)
    tl.store(own + at, dwq, mask=there)
    tl.store(own + M * D + at, dwk, mask=there)


def recall(streams: Tensor, both: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """streams [T, M, D], both [T, (M + 1) D]: keys of all streams, then the value; gains [M, D] -> streams with the
    value added to each by its gate. Differentiable in all four. ValueError for a wrong shape."""
    T, M, D = streams.shape
    if tuple(both.shape) != (T, (M + 1) * D):
        raise ValueError(f"both has the shape {tuple(both.shape)}; it must be {(T, (M + 1) * D)}")
    check_gains(q_weight, k_weight, M, D)
    return _Recall.apply(streams, both, q_weight, k_weight, eps)


class _Recall(torch.autograd.Function):
    """Keeps the inputs."""

    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, both: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float
    ) -> Tensor:
        given = tuple(x.contiguous() for x in (streams, both, q_weight, k_weight))
        ctx.save_for_backward(*given)
        ctx.eps = eps
        T, M, D = streams.shape
        out = torch.empty_like(given[0])
        if T:
            block = triton.next_power_of_2(D)
            _forward[(T,)](*given, out, D, D**-0.5, eps, M=M, BLOCK=block, num_warps=_warps(M * block))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        T, M, D = given[0].shape
        made = torch.empty_like(given[0]), torch.empty_like(given[1])
        programs = max(1, min(T, _PROGRAMS))
        gains = given[0].new_zeros((programs, 2, M, D), dtype=torch.float32)
        if T:
            block = triton.next_power_of_2(D)
            _backward[(programs,)](
                *given, grads[0].contiguous(), *made, gains, T, D, D**-0.5, ctx.eps, programs, M=M, BLOCK=block,
                num_warps=_warps(2 * M * block),
            )  # fmt: skip
        summed = gains.sum(0)
        return *made, summed[0].to(given[2].dtype), summed[1].to(given[3].dtype), None


def _warps(values: int) -> int:
    return min(16, max(1, values // 512))
