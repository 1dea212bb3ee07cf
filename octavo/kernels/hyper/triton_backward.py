"""Hyper-connections on a GPU with gradients: `enter`, `cross`, `write` and `merge`, once differentiable.

Covers: gradients of streams, sublayer outputs, coefficients, fn, base, scale and gain, each in its tensor's dtype; the
forward launches are those of `triton`. Does not cover: the backward of Sinkhorn's rounds (`sinkhorn`). All sums are
taken in a fixed order.

Kept for the backward pass: the inputs, and of a token FP32 m = raw rho of its N outputs, and rho. With z = m scale +
base and x = sum_j pre_j h_j, the gradient of stream j of a token is pre_j dx + draw fn + q h_j, where draw = dm rho,
and q = -rho^2 / (M D) * sum_o dm_o m_o comes from the norm over all channels.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.hyper import triton as forward
from octavo.kernels.hyper.sinkhorn import Sinkhorn
from octavo.kernels.hyper.triton import columns, load_streams, pick, warps_for

_BLOCK_T, _BLOCK_D = 32, 64  # a tile of the streams' gradients
_WARPS = 132 * 16  # that keep an H100 busy: programs of few warps are many


@triton.jit
def _outputs_kernel(
    streams, kept, base, scale, gain, gx, dpost, dlogits, dx, draw, dgains, dbases, dscales, T, D, programs, eps,
    norm_eps, M: tl.constexpr, MIX: tl.constexpr, GAIN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A token after another: dx [T, D] of the collapsed stream, draw [T, BLOCK_N] with q in column N, and a program's
    sums of the gradients of gain, base, and dz raw rho, whose sums over a group are the gradients of scale."""
    N: tl.constexpr = M * (2 + M) if MIX else M
    lane, d = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    there = d < D
    factor = tl.load(scale + tl.minimum(lane // M, 2 if MIX else 0)).to(tl.float32)
    shift = tl.load(base + lane, mask=lane < N, other=0.0).to(tl.float32)
    dgain = tl.zeros((BLOCK_D,), tl.float32)
    dbase = tl.zeros((BLOCK_N,), tl.float32)
    dscale = tl.zeros((BLOCK_N,), tl.float32)
    if GAIN:
        weight = tl.load(gain + d, mask=there, other=0.0).to(tl.float32)
    for t in range(tl.program_id(0).to(tl.int64), T, programs):
        m = tl.load(kept + t * BLOCK_N + lane, mask=lane < N, other=0.0)
        rho = tl.load(kept + t * BLOCK_N + N)
        gate = tl.sigmoid(m * factor + shift)
        x = tl.zeros((BLOCK_D,), tl.float32)
        for j in tl.static_range(M):
            h = tl.load(streams + t * (M * D) + j * D + d, mask=there, other=0.0).to(tl.float32)
            x += tl.sum(tl.where(lane == j, gate + eps, 0.0)) * h
        x = x.to(dx.dtype.element_ty).to(tl.float32)
        g = tl.load(gx + t * D + d, mask=there, other=0.0).to(tl.float32)
        if GAIN:
            r = tl.rsqrt(tl.sum(x * x) / D + norm_eps)
            dgain += g * x * r
            g = g * weight
            g = r * (g - x * (r * r * tl.sum(g * x) / D))
        rounded = g.to(dx.dtype.element_ty)
        tl.store(dx + t * D + d, rounded, mask=there)
        g = rounded.to(tl.float32)
        dz = tl.zeros((BLOCK_N,), tl.float32)
        for j in tl.static_range(M):
            h = tl.load(streams + t * (M * D) + j * D + d, mask=there, other=0.0).to(tl.float32)
            dz = tl.where(lane == j, tl.sum(g * h), dz)
        if MIX:
            is_post = (lane >= M) & (lane < 2 * M)
            dz += 2.0 * tl.load(dpost + t * M + lane - M, mask=is_post, other=0.0)
        dz = dz * gate * (1.0 - gate)
        if MIX:
            is_comb = (lane >= 2 * M) & (lane < N)
            dz += tl.load(dlogits + t * (M * M) + lane - 2 * M, mask=is_comb, other=0.0)
        dbase += dz
        dscale += dz * m
        dm = dz * factor
        q = -tl.sum(dm * m) * rho * rho / (M * D)
        tl.store(draw + t * BLOCK_N + lane, tl.where(lane == N, q, dm * rho))
    p = tl.program_id(0).to(tl.int64)
    tl.store(dbases + p * BLOCK_N + lane, dbase)
    tl.store(dscales + p * BLOCK_N + lane, dscale)
    if GAIN:
        tl.store(dgains + p * D + d, dgain, mask=there)


@triton.jit
def _streams_kernel(
    streams, kept, base, scale, fn, dx, draw, added, grad, dfn, T, D, share, eps,
    M: tl.constexpr, N: tl.constexpr, ADD: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of BLOCK_D channels of one stream for `share` tokens, with `added` where ADD; their share of fn's.

    BF16 streams are exact in TF32, and what is rounded to it beside them is less than their gradients are rounded by.
    """
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    j = tl.program_id(1)
    o = tl.arange(0, BLOCK_N)
    is_weight = (o < N)[:, None] & (d < D)[None, :]
    at_weight = o[:, None] * (M * D) + (j * D + d)[None, :]
    w = tl.load(fn + at_weight, mask=is_weight, other=0.0).to(tl.float32)
    factor, shift = tl.load(scale).to(tl.float32), tl.load(base + j).to(tl.float32)
    acc = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    first = tl.program_id(2) * share
    for at in range(first, tl.minimum(first + share, T), BLOCK_T):
        t = (at + tl.arange(0, BLOCK_T)).to(tl.int64)
        ok = t < T
        there = ok[:, None] & (d < D)[None, :]
        place = t[:, None] * (M * D) + (j * D + d)[None, :]
        h = tl.load(streams + place, mask=there, other=0.0).to(tl.float32)
        a = tl.load(draw + t[:, None] * BLOCK_N + o[None, :], mask=ok[:, None], other=0.0)
        q = tl.load(draw + t * BLOCK_N + N, mask=ok, other=0.0)
        pre = tl.sigmoid(tl.load(kept + t * BLOCK_N + j, mask=ok, other=0.0) * factor + shift) + eps
        g = tl.dot(a, w, input_precision=PRECISION) + q[:, None] * h
        g += pre[:, None] * tl.load(dx + t[:, None] * D + d[None, :], mask=there, other=0.0).to(tl.float32)
        if ADD:
            g += tl.load(added + place, mask=there, other=0.0).to(tl.float32)
        tl.store(grad + place, g.to(grad.dtype.element_ty), mask=there)
        acc = tl.dot(tl.trans(a), h, acc, input_precision=PRECISION)
    to = dfn + tl.program_id(2).to(tl.int64) * (N * M * D)
    tl.store(to + at_weight, acc, mask=is_weight)


@triton.jit
def _write_kernel(
    streams, y, post, comb, g, dstreams, dy, dpost, dcomb, D, M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The backward of a write of one token."""
    t = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    there = d < D
    place = t * (M * D) + d
    out = tl.load(y + t * D + d, mask=there, other=0.0).to(tl.float32)
    h0, h1, h2, h3 = load_streams(streams + place, there, D, M)
    g0, g1, g2, g3 = load_streams(g + place, there, D, M)
    dout = tl.zeros((BLOCK_D,), tl.float32)
    for k in tl.static_range(M):
        gk = pick(k, g0, g1, g2, g3)
        dout += tl.load(post + t * M + k) * gk
        tl.store(dpost + t * M + k, tl.sum(gk * out))
    tl.store(dy + t * D + d, dout.to(dy.dtype.element_ty), mask=there)
    for j in tl.static_range(M):
        h = pick(j, h0, h1, h2, h3)
        dh = tl.zeros((BLOCK_D,), tl.float32)
        for k in tl.static_range(M):
            gk = pick(k, g0, g1, g2, g3)
            dh += tl.load(comb + t * (M * M) + j * M + k) * gk
            tl.store(dcomb + t * (M * M) + j * M + k, tl.sum(gk * h))
        tl.store(dstreams + place + j * D, dh.to(dstreams.dtype.element_ty), mask=there)


def enter(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`triton.enter`, differentiable."""
    return _Begin.apply(streams, fn, base, scale, gain, iters, eps, norm_eps)


def cross(
    streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *,
    iters: int, eps: float, norm_eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`triton.cross`, differentiable."""
    return _Cross.apply(streams, y, post, comb, fn, base, scale, gain, iters, eps, norm_eps)


def merge(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None, *, eps: float, norm_eps: float
) -> Tensor:
    """`triton.merge`, differentiable."""
    return _Begin.apply(streams, fn, base, scale, gain, 0, eps, norm_eps)[0]


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """`triton.write`, differentiable."""
    return _Write.apply(streams, y, post, comb)


class _Begin(torch.autograd.Function):
    """x, post and comb of streams; iters 0: x alone, the others empty."""

    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None, iters: int,
        eps: float, norm_eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        _, x, post, comb, kept = forward.begin(
            streams, None, fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps, config=None, keep=True
        )
        ctx.save_for_backward(streams, fn, base, scale, gain, kept)
        ctx.options = iters, eps, norm_eps
        if not iters:
            ctx.mark_non_differentiable(post, comb)
        return x, post, comb

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *_begin_gradients(*ctx.saved_tensors, None, *grads, *ctx.options), None, None, None


class _Cross(torch.autograd.Function):
    """Streams, x, post and comb after a write."""

    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, fn: Tensor, base: Tensor, scale: Tensor,
        gain: Tensor, iters: int, eps: float, norm_eps: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        after, x, next_post, next_comb, kept = forward.begin(
            streams, (y, post, comb), fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps, config=None,
            keep=True,
        )  # fmt: skip
        ctx.save_for_backward(streams, y, post, comb, after, fn, base, scale, gain, kept)
        ctx.options = iters, eps, norm_eps
        return after, x, next_post, next_comb

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        streams, y, post, comb, *behind = ctx.saved_tensors
        dafter, *weights = _begin_gradients(*behind, *grads, *ctx.options)
        return *_write_gradients(streams, y, post, comb, dafter), *weights, None, None, None


class _Write(torch.autograd.Function):
    """The streams after a write."""

    @staticmethod
    def forward(ctx: Any, streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
        ctx.save_for_backward(streams, y, post, comb)
        return forward.write(streams, y, post, comb)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return _write_gradients(*ctx.saved_tensors, grads[0].contiguous())


def _write_gradients(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    T, M, D = streams.shape
    made = tuple(torch.empty_like(x) for x in (streams, y, post, comb))
    if T:
        block = triton.next_power_of_2(D)
        _write_kernel[(T,)](streams, y, post, comb, g, *made, D, M=M, BLOCK_D=block, num_warps=warps_for(block))
    return made


def _begin_gradients(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None, kept: Tensor, added: Tensor | None,
    gx: Tensor, dpost: Tensor, dcomb: Tensor, iters: int, eps: float, norm_eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Gradients of streams (with `added`, another one of theirs), fn, base, scale and gain."""
    T, M, D = streams.shape
    N = fn.shape[0]
    if T == 0:
        zeros = [None if w is None else torch.zeros_like(w) for w in (fn, base, scale, gain)]
        return torch.empty_like(streams), *zeros  # pyright: ignore[reportReturnType]
    dlogits = kept
    if iters:
        with torch.enable_grad():
            z = kept[:, 2 * M : N] * scale[2].float() + base[2 * M :].float()
            logits = z.detach().view(T, M, M).requires_grad_()
            made = Sinkhorn.apply(logits, iters, eps)
        (dlogits,) = torch.autograd.grad(made, logits, dcomb.contiguous())
    block_n, block_d = columns(N), triton.next_power_of_2(D)
    programs = min(T, _WARPS // warps_for(block_d))
    dx, draw = torch.empty_like(gx, memory_format=torch.contiguous_format), torch.empty_like(kept)
    dgains = kept.new_empty((programs, D) if gain is not None else (0,))
    dbases, dscales = kept.new_empty((2, programs, block_n))
    _outputs_kernel[(programs,)](
        streams, kept, base, scale, base if gain is None else gain, gx.contiguous(), dpost.contiguous(), dlogits, dx,
        draw, dgains, dbases, dscales, T, D, programs, eps, norm_eps,
        M=M, MIX=iters > 0, GAIN=gain is not None, BLOCK_N=block_n, BLOCK_D=block_d, num_warps=warps_for(block_d),
    )  # fmt: skip
    grad = torch.empty_like(streams)
    tiles = triton.cdiv(D, _BLOCK_D) * M
    splits = max(1, min(_WARPS // 2 // tiles, triton.cdiv(T, 4 * _BLOCK_T)))
    share = triton.cdiv(triton.cdiv(T, _BLOCK_T), splits) * _BLOCK_T
    splits = triton.cdiv(T, share)
    dfn = kept.new_empty((splits, N, M * D))
    _streams_kernel[(triton.cdiv(D, _BLOCK_D), M, splits)](
        streams, kept, base, scale, fn, dx, draw, streams if added is None else added.contiguous(), grad, dfn, T, D,
        share, eps, M=M, N=N, ADD=added is not None, BLOCK_N=block_n, BLOCK_T=_BLOCK_T, BLOCK_D=_BLOCK_D,
        PRECISION="tf32" if streams.dtype == torch.bfloat16 else "tf32x3", num_warps=4, num_stages=2,
    )  # fmt: skip
    scaled = dscales.sum(0)
    groups = [scaled[:M], scaled[M : 2 * M], scaled[2 * M : N]] if iters else [scaled[:M]]
    dscale = torch.stack([part.sum() for part in groups])
    dgain = None if gain is None else dgains.sum(0).to(gain.dtype)
    whole = dfn[0] if splits == 1 else dfn.sum(0)
    return grad, whole.to(fn.dtype), dbases.sum(0)[:N].to(base.dtype), dscale.to(scale.dtype), dgain
