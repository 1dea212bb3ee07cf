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
from octavo.kernels.hyper.sinkhorn import logits_gradient
from octavo.kernels.hyper.tiles import load_streams, pick
from octavo.kernels.hyper.triton import columns, warps_for

_TILES = {torch.bfloat16: (32, 64, 4, 1), torch.float32: (32, 32, 4, 1)}  # tokens, channels, warps, stages
_GROUPS = 4  # places for the gradients of the scales
_WARPS = 132 * 16  # that keep an H100 busy: programs of few warps are many


@triton.jit
def _outputs_kernel(
    streams, kept, base, scale, gain, gx, dpost, dlogits, dx, draw, slope, sums, T, D, programs, eps, norm_eps,
    M: tl.constexpr, MIX: tl.constexpr, GAIN: tl.constexpr, GROUPS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A token after another: dx [T, D] of the collapsed stream, draw [T, BLOCK_N], zero from column N on, the slope q,
    and a program's sums of the gradients of gain [D], base [BLOCK_N] and scale [GROUPS]."""
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
        tl.store(slope + t, q)
        tl.store(draw + t * BLOCK_N + lane, (dm * rho).to(draw.dtype.element_ty))
    own = sums + tl.program_id(0).to(tl.int64) * (D + BLOCK_N + GROUPS)
    tl.store(own + d, dgain, mask=there)
    tl.store(own + D + lane, dbase)
    for group in tl.static_range(GROUPS):
        mine = tl.minimum(lane // M, 2 if MIX else 0) == group
        tl.store(own + D + BLOCK_N + group, tl.sum(tl.where(mine, dscale, 0.0)))


@triton.jit
def _dot(a, b, acc, NATIVE: tl.constexpr):
    """acc + a b of BF16 on a GPU, else of FP32."""
    if NATIVE:
        return tl.dot(a, b, acc)
    else:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="tf32x3")


@triton.jit
def _streams_kernel(
    streams, kept, base, scale, fn, dx, draw, slope, added, grad, dfn, T, D, share, eps,
    M: tl.constexpr, N: tl.constexpr, ADD: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Gradient of BLOCK_D channels of all streams for `share` tokens, with `added` where ADD; their share of fn's.

    Beside BF16 streams draw and fn are rounded to BF16 too, by as much as the gradients that come of them.
    """
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    o = tl.arange(0, BLOCK_N)
    is_weight = (o < N)[:, None] & (d < D)[None, :]
    at_weight = o[:, None] * (M * D) + d[None, :]
    w0, w1, w2, w3 = load_streams(fn + at_weight, is_weight, D, M)
    factor = tl.load(scale).to(tl.float32)
    acc0 = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    acc1 = acc0
    acc2 = acc0
    acc3 = acc0
    first = tl.program_id(1) * share
    for at in range(first, tl.minimum(first + share, T), BLOCK_T):
        t = (at + tl.arange(0, BLOCK_T)).to(tl.int64)
        ok = t < T
        there = ok[:, None] & (d < D)[None, :]
        place = t[:, None] * (M * D) + d[None, :]
        a = tl.load(draw + t[:, None] * BLOCK_N + o[None, :], mask=ok[:, None], other=0.0)
        q = tl.load(slope + t, mask=ok, other=0.0)[:, None]
        x = tl.load(dx + t[:, None] * D + d[None, :], mask=there, other=0.0).to(tl.float32)
        for j in tl.static_range(M):
            h = tl.load(streams + place + j * D, mask=there, other=0.0)
            z = tl.load(kept + t * BLOCK_N + j, mask=ok, other=0.0) * factor + tl.load(base + j).to(tl.float32)
            g = (tl.sigmoid(z) + eps)[:, None] * x + q * h.to(tl.float32)
            if ADD:
                g += tl.load(added + place + j * D, mask=there, other=0.0).to(tl.float32)
            g += _dot(a, pick(j, w0, w1, w2, w3).to(h.dtype), tl.zeros((BLOCK_T, BLOCK_D), tl.float32), NATIVE)
            tl.store(grad + place + j * D, g.to(grad.dtype.element_ty), mask=there)
            total = _dot(tl.trans(a), h, pick(j, acc0, acc1, acc2, acc3), NATIVE)
            if j == 0:
                acc0 = total
            if j == 1:
                acc1 = total
            if j == 2:
                acc2 = total
            if j == 3:
                acc3 = total
    to = dfn + tl.program_id(1).to(tl.int64) * (N * M * D) + at_weight
    for j in tl.static_range(M):
        tl.store(to + j * D, pick(j, acc0, acc1, acc2, acc3), mask=is_weight)


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
    return begin(streams, fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps)[1:]


def begin(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The streams as they are, and `triton.enter` of them, differentiable: who goes on with these streams spares the
    backward pass an addition."""
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
    return _Merge.apply(streams, fn, base, scale, gain, eps, norm_eps)


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """`triton.write`, differentiable."""
    return _Write.apply(streams, y, post, comb)


class _Begin(torch.autograd.Function):
    """The streams themselves; x, post and comb of them."""

    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, iters: int, eps: float,
        norm_eps: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        streams, x, post, comb, kept = forward.begin(
            streams, None, fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps, config=None, keep=True
        )
        ctx.save_for_backward(streams, fn, base, scale, gain, kept)
        ctx.options = iters, eps, norm_eps
        ctx.set_materialize_grads(False)
        return streams, x, post, comb

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: what is recomputed is given out once
        made = _or_zeros(grads[1:], saved[0], saved[-1])
        return *_begin_gradients(*saved, grads[0], *made, *ctx.options), None, None, None


class _Merge(torch.autograd.Function):
    """x alone, with the head's weights."""

    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None, eps: float,
        norm_eps: float,
    ) -> Tensor:  # fmt: skip
        _, x, _, _, kept = forward.begin(
            streams, None, fn, base, scale, gain, iters=0, eps=eps, norm_eps=norm_eps, config=None, keep=True
        )
        ctx.save_for_backward(streams, fn, base, scale, gain, kept)
        ctx.options = 0, eps, norm_eps
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        unused = saved[-1]
        return *_begin_gradients(*saved, None, grads[0], unused, unused, *ctx.options), None, None


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
        ctx.set_materialize_grads(False)
        return after, x, next_post, next_comb

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        streams, y, post, comb, *behind = ctx.saved_tensors
        made = _or_zeros(grads[1:], streams, behind[-1])
        dafter, *weights = _begin_gradients(*behind, grads[0], *made, *ctx.options)
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


def _or_zeros(grads: tuple[Tensor | None, ...], streams: Tensor, kept: Tensor) -> list[Tensor]:
    """Gradients of x, post and comb; zeros for a result that was not used."""
    T, M, D = streams.shape
    shapes = ((streams, (T, D)), (kept, (T, M)), (kept, (T, M, M)))
    return [like.new_zeros(shape) if g is None else g for g, (like, shape) in zip(grads, shapes, strict=True)]


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
    dlogits = logits_gradient(kept, base, scale, dcomb.contiguous(), iters=iters, eps=eps) if iters else kept
    block_n, block_d = columns(N), triton.next_power_of_2(D)
    programs = min(T, _WARPS // warps_for(block_d))
    dx, draw = torch.empty_like(gx, memory_format=torch.contiguous_format), streams.new_empty(kept.shape)
    slope, sums = kept.new_empty(T), kept.new_empty((programs, D + block_n + _GROUPS))
    _outputs_kernel[(programs,)](
        streams, kept, base, scale, base if gain is None else gain, gx.contiguous(), dpost.contiguous(), dlogits, dx,
        draw, slope, sums, T, D, programs, eps, norm_eps, M=M, MIX=iters > 0, GAIN=gain is not None, GROUPS=_GROUPS,
        BLOCK_N=block_n, BLOCK_D=block_d, num_warps=warps_for(block_d),
    )  # fmt: skip
    grad = torch.empty_like(streams)
    dfn = _streams_gradient(streams, kept, base, scale, fn, dx, draw, slope, added, grad, eps)
    total = sums.sum(0)
    dbase, dscale = total[D : D + N], total[D + block_n : D + block_n + len(scale)]
    dgain = None if gain is None else total[:D].to(gain.dtype)
    return grad, dfn.to(fn.dtype), dbase.to(base.dtype), dscale.to(scale.dtype), dgain


def _streams_gradient(
    streams: Tensor, kept: Tensor, base: Tensor, scale: Tensor, fn: Tensor, dx: Tensor, draw: Tensor, slope: Tensor,
    added: Tensor | None, grad: Tensor, eps: float,
) -> Tensor:  # fmt: skip
    """Write grad [T, M, D]; -> the gradient of fn, FP32."""
    (T, M, D), N = streams.shape, len(fn)
    block_t, block_d, warps, stages = _TILES[streams.dtype]
    columns_of = triton.cdiv(D, block_d)
    splits = max(1, min(_WARPS // 4 // columns_of, triton.cdiv(T, 4 * block_t)))
    share = triton.cdiv(triton.cdiv(T, block_t), splits) * block_t
    splits = triton.cdiv(T, share)
    dfn = kept.new_empty((splits, N, M * D))
    _streams_kernel[(columns_of, splits)](
        streams, kept, base, scale, fn, dx, draw, slope, streams if added is None else added.contiguous(), grad, dfn,
        T, D, share, eps, M=M, N=N, ADD=added is not None, BLOCK_N=kept.shape[1], BLOCK_T=block_t, BLOCK_D=block_d,
        NATIVE=streams.is_cuda and streams.dtype == torch.bfloat16, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return dfn[0] if splits == 1 else dfn.sum(0)
