"""Routed experts on a GPU with gradients: plain weights of the activations' dtype, for training.

Covers: dx, dw1, dw3, dw2 and d share as grouped products over the schedule of the forward pass, which keeps gate, up
and hidden of every pair; an expert that every token passes beside them, whose products are the library's and whose
result and dx join the sum over a token's pairs. Does not cover: small formats, the gradient of the choice (there is
none).
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.experts.schedule import Schedule
from octavo.kernels.experts.triton import bound, check, passed, sorted_pairs, tiles_for
from octavo.kernels.experts.weights import ExpertWeights
from octavo.kernels.linear.packed import Tiles, ordered_sum
from octavo.kernels.linear.triton import wide


@triton.jit
def _dot(a, b, acc, WIDE: tl.constexpr):
    if WIDE:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc)


@triton.jit
def _through_activation(gate, up, grad, limit):
    """FP32 gradients of gate and up (before the clamps) from that of silu(gate) up, and that value."""
    low, flat = tl.minimum(gate, limit), tl.maximum(tl.minimum(up, limit), -limit)
    soft = 1.0 / (1.0 + tl.exp(-low))
    d_gate = tl.where(gate <= limit, grad * flat * soft * (1.0 + low * (1.0 - soft)), 0.0)
    d_up = tl.where((up <= limit) & (up >= -limit), grad * low * soft, 0.0)
    return d_gate, d_up, low * soft * flat


@triton.jit
def _hidden_grad(
    grad, w2, gates, ups, share, d_gates, d_ups, d_share, order, tiles, limit, TILES, N,
    A: tl.constexpr, D: tl.constexpr, F: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """d gate, d up of a tile, and its part of d share from these ROWS channels: rows of w2^T times rows of grad."""
    expert, pair, live = sorted_pairs(order, tiles, TILES, TOKENS)
    if expert >= 0:
        row, inner = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
        g_at = grad + (pair // A).to(tl.int64)[:, None] * D + inner[None, :]
        w_at = w2 + expert.to(tl.int64) * D * F + inner[:, None] * F + row[None, :]
        acc = tl.zeros((ROWS, TOKENS), tl.float32)
        for step in range(D // WIDTH):
            g = tl.load(g_at + step * WIDTH, mask=live[:, None], other=0.0)
            w = tl.load(w_at + step * WIDTH * F, mask=(row < F)[None, :], other=0.0)
            acc = _dot(tl.trans(w), tl.trans(g), acc, WIDE)
        at = pair.to(tl.int64)[None, :] * F + row[:, None]
        stored = (row < F)[:, None] & live[None, :]
        gate = tl.load(gates + at, mask=stored, other=0.0).to(tl.float32)
        up = tl.load(ups + at, mask=stored, other=0.0).to(tl.float32)
        weight = tl.load(share + pair, mask=live, other=0.0).to(tl.float32)[None, :]
        d_gate, d_up, value = _through_activation(gate, up, acc * weight, limit)
        tl.store(d_gates + at, d_gate.to(d_gates.dtype.element_ty), mask=stored)
        tl.store(d_ups + at, d_up.to(d_ups.dtype.element_ty), mask=stored)
        tl.store(d_share + tl.program_id(0) * N + pair, tl.sum(acc * value, 0), mask=live)


@triton.jit
def _input_grad(
    d_gates, d_ups, w1, w3, parts, order, tiles, TILES,
    D: tl.constexpr, F: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Each pair's part of dx: rows of w1^T times d gate plus rows of w3^T times d up."""
    expert, pair, live = sorted_pairs(order, tiles, TILES, TOKENS)
    if expert >= 0:
        row, inner = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
        at = pair.to(tl.int64)[:, None] * F + inner[None, :]
        w_at = expert.to(tl.int64) * F * D + inner[:, None] * D + row[None, :]
        acc = tl.zeros((ROWS, TOKENS), tl.float32)
        for step in range(F // WIDTH):
            w = tl.load(w1 + w_at + step * WIDTH * D, mask=(row < D)[None, :], other=0.0)
            g = tl.load(d_gates + at + step * WIDTH, mask=live[:, None], other=0.0)
            acc = _dot(tl.trans(w), tl.trans(g), acc, WIDE)
            w = tl.load(w3 + w_at + step * WIDTH * D, mask=(row < D)[None, :], other=0.0)
            g = tl.load(d_ups + at + step * WIDTH, mask=live[:, None], other=0.0)
            acc = _dot(tl.trans(w), tl.trans(g), acc, WIDE)
        to = parts + pair.to(tl.int64)[None, :] * D + row[:, None]
        tl.store(to, acc.to(parts.dtype.element_ty), mask=(row < D)[:, None] & live[None, :])


@triton.jit
def _weight_grad(
    left, right, out, order, starts,
    LEFT_A: tl.constexpr, RIGHT_A: tl.constexpr, M: tl.constexpr, N: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """out[e] [M, N] = sum over the pairs of expert e of left[pair // LEFT_A] right[pair // RIGHT_A]^T."""
    expert = tl.program_id(2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    slot = tl.arange(0, TOKENS)
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    end = tl.load(starts + expert + 1)
    for first in range(tl.load(starts + expert), end, TOKENS):
        live = first + slot < end
        pair = tl.load(order + first + slot, mask=live, other=0)
        a = tl.load(left + (pair // LEFT_A).to(tl.int64)[:, None] * M + row[None, :],
                    mask=live[:, None] & (row < M)[None, :], other=0.0)  # fmt: skip
        b = tl.load(right + (pair // RIGHT_A).to(tl.int64)[:, None] * N + column[None, :],
                    mask=live[:, None] & (column < N)[None, :], other=0.0)  # fmt: skip
        acc = _dot(tl.trans(a), b, acc, WIDE)
    to = out + expert.to(tl.int64) * M * N + row[:, None] * N + column[None, :]
    tl.store(to, acc.to(out.dtype.element_ty), mask=(row < M)[:, None] & (column < N)[None, :])


@triton.jit
def _activate(both, hidden, limit, total, F: tl.constexpr, BLOCK: tl.constexpr):
    """Rows of gate | up [T, 2 F] -> hidden [T, F]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place, ok = at // F * (2 * F) + at % F, at < total
    gate = tl.load(both + place, mask=ok, other=0.0).to(tl.float32)
    up = tl.load(both + place + F, mask=ok, other=0.0).to(tl.float32)
    gate = tl.minimum(gate, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.minimum(up, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.maximum(up, -limit, propagate_nan=tl.PropagateNan.ALL)
    tl.store(hidden + at, (gate / (1.0 + tl.exp(-gate)) * up).to(hidden.dtype.element_ty), mask=ok)


@triton.jit
def _activate_back(both, grad, out, limit, total, F: tl.constexpr, BLOCK: tl.constexpr):
    """The gradient [T, 2 F] of gate | up from that of hidden [T, F]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place, ok = at // F * (2 * F) + at % F, at < total
    gate = tl.load(both + place, mask=ok, other=0.0).to(tl.float32)
    up = tl.load(both + place + F, mask=ok, other=0.0).to(tl.float32)
    d_gate, d_up, _ = _through_activation(gate, up, tl.load(grad + at, mask=ok, other=0.0).to(tl.float32), limit)
    tl.store(out + place, d_gate.to(out.dtype.element_ty), mask=ok)
    tl.store(out + place + F, d_up.to(out.dtype.element_ty), mask=ok)


class _Experts(torch.autograd.Function):
    """The routed experts and maybe a shared one (s13 [2 S, D], s2 [D, S]); the second pass runs over the first one's
    schedule."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, s13: Tensor | None, s2: Tensor | None, chosen: Tensor,
        share: Tensor, limit: float | None,
    ) -> Tensor:  # fmt: skip
        weights = ExpertWeights(format="bf16", w1=w1, w3=w3, w2=w2)
        check(x, weights, chosen, share, None)
        (T, A), (X, F, D) = chosen.shape, w1.shape
        ctx.tiles, ctx.limit = tiles_for(T * A, X, D, F, form="bf16", deep=not wide(x)), limit
        parts, hidden, gates, ups, plan = passed(
            x, weights, chosen, share, limit, ctx.tiles, save=True, dtype=x.dtype, up=_inner(ctx.tiles, D, 64)
        )
        assert plan is not None
        both = own = more = None
        if s13 is not None and s2 is not None:
            both = torch.mm(x, s13.T)
            own = _activated(both, limit)
            more = torch.mm(own, s2.T)
        ctx.save_for_backward(
            x, w1, w3, w2, s13, s2, chosen, share, hidden, gates, ups, plan.order, plan.starts, plan.tiles, both, own
        )
        out = torch.float32 if more is None else x.dtype
        return ordered_sum(parts.view(T, A, D), out, chosen=chosen, more=more)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, w3, w2, s13, s2, chosen, share, hidden, gates, ups, order, starts, listed, both, own = ctx.saved_tensors
        (T, A), X, D, tiles = chosen.shape, *w1.shape[::2], ctx.tiles
        plan = Schedule(order, starts, listed, tiles.tokens)
        grad = grads[0].to(x.dtype).contiguous()
        more = ds13 = ds2 = None
        if s13 is not None:
            d_both = _through_activated(both, torch.mm(grad, s2), ctx.limit)
            more, ds13, ds2 = torch.mm(d_both, s13), torch.mm(d_both.T, x), torch.mm(grad.T, own)
        d_gates, d_ups, d_share = _through_hidden(grad, w2, gates, ups, share, plan, ctx.limit, tiles)
        dx = _through_input(d_gates, d_ups, w1, w3, plan, tiles)
        return (
            ordered_sum(dx.view(T, A, D), x.dtype, chosen=chosen, more=more),
            _of_weight(d_gates, x, plan, X, 1, A),
            _of_weight(d_ups, x, plan, X, 1, A),
            _of_weight(grad, hidden, plan, X, A, 1),
            ds13,
            ds2,
            None,
            d_share.view(T, A).masked_fill(chosen < 0, 0.0).to(share.dtype),
            None,
        )


_ACTIVATED = 1024  # values of a program


def _activated(both: Tensor, limit: float | None) -> Tensor:
    """gate | up [T, 2 F] -> the hidden vectors [T, F]."""
    T, F = len(both), both.shape[1] // 2
    hidden = both.new_empty(T, F)
    grid = (triton.cdiv(T * F, _ACTIVATED),)
    _activate[grid](both, hidden, bound(limit), T * F, F, _ACTIVATED, num_warps=4)
    return hidden


def _through_activated(both: Tensor, grad: Tensor, limit: float | None) -> Tensor:
    """The gradient of gate | up [T, 2 F] from that of the hidden vectors [T, F]."""
    made, total = torch.empty_like(both), grad.numel()
    grid = (triton.cdiv(total, _ACTIVATED),)
    _activate_back[grid](both, grad, made, bound(limit), total, grad.shape[1], _ACTIVATED, num_warps=4)
    return made


def _inner(tiles: Tiles, D: int, rows: int) -> Tiles:
    """Sizes of a product over D channels for as many tokens: the fastest of six for 160 x 512 on an H100."""
    return Tiles(rows, tiles.tokens, min(64, D & -D), 4, 3)


def _through_hidden(
    grad: Tensor, w2: Tensor, gates: Tensor, ups: Tensor, share: Tensor, plan: Schedule, limit: float | None,
    tiles: Tiles,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """d gate and d up [T A, F], d share [T A] from grad [T, D]."""
    (pairs, F), D, most = gates.shape, grad.shape[1], plan.tiles.shape[1]
    d_gates, d_ups = torch.empty_like(gates), torch.empty_like(ups)
    tiles = _inner(tiles, D, 32)  # the activation's gradient holds several numbers for each of the product
    blocks = triton.cdiv(F, tiles.rows)
    d_share = torch.empty(blocks, pairs, dtype=torch.float32, device=grad.device)
    _hidden_grad[(blocks, most)](
        grad, w2, gates, ups, share, d_gates, d_ups, d_share, plan.order, plan.tiles, bound(limit), most, pairs,
        share.shape[1], D, F, wide(grad), tiles.rows, tiles.tokens, tiles.width,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return d_gates, d_ups, d_share.sum(0)


def _through_input(d_gates: Tensor, d_ups: Tensor, w1: Tensor, w3: Tensor, plan: Schedule, tiles: Tiles) -> Tensor:
    """Parts of dx [T A, D] in their dtype."""
    (pairs, F), D, most = d_gates.shape, w1.shape[2], plan.tiles.shape[1]
    parts = d_gates.new_empty(pairs, D)
    _input_grad[(triton.cdiv(D, tiles.rows), most)](
        d_gates, d_ups, w1, w3, parts, plan.order, plan.tiles, most, D, F, wide(d_gates), tiles.rows, tiles.tokens,
        tiles.width, num_warps=tiles.warps, num_stages=min(tiles.stages, 3),
    )  # fmt: skip
    return parts


def _of_weight(left: Tensor, right: Tensor, plan: Schedule, X: int, left_a: int, right_a: int) -> Tensor:
    """[X, M, N] from left [., M] and right [., N], whose rows are pairs or, with A > 1 pairs to a row, tokens."""
    M, N = left.shape[1], right.shape[1]
    rows, columns = (min(64 if n < 256 else 128, max(16, triton.next_power_of_2(n))) for n in (M, N))
    step = 64 if left.dtype == torch.float32 else 128
    out = torch.empty(X, M, N, dtype=left.dtype, device=left.device)
    _weight_grad[(triton.cdiv(M, rows), triton.cdiv(N, columns), X)](
        left, right, out, plan.order, plan.starts, left_a, right_a, M, N, wide(left), rows, columns, step,
        num_warps=8 if rows * columns > 8192 else 4, num_stages=3,
    )  # fmt: skip
    return out


def experts(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, chosen: Tensor, share: Tensor, limit: float | None,
    shared: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """x [T, D], w1, w3 [X, F, D], w2 [X, D, F] of x's dtype, chosen [T, A], share [T, A] -> FP32 [T, D], differentiable
    in all but `chosen`; otherwise as `triton.experts`. With `shared`, the gate's over the up's rows [2 S, D] and the
    down matrix [D, S] of an expert that every token passes, its result is added and the sum is in x's dtype. Each
    pair's part is rounded to x's dtype, sums are FP32; gradients of weights are summed in FP32 and rounded once."""
    if x.shape[0] == 0:
        raise ValueError("x has 0 tokens; a step of training has at least 1")
    own = (None, None) if shared is None else shared
    return _Experts.apply(x.contiguous(), w1, w3, w2, *own, chosen.contiguous(), share.contiguous(), limit)
