"""Engram on a GPU: addresses and rows in one launch, the gate in another; once differentiable.

Covers: `lookup` (`row_ids` and `gather` of what it gives), each of the two alone, and `gate`, with the gradients of
table, streams, keys and gains. Does not cover: what the gates let in (`triton_recall`), the context of compressed ids,
tables on other devices. The table's gradient is dense and added up by atomic operations in FP32, so its last bits may
change from run to run; all other sums keep their order.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.engram_lookup.hashing import HashPlan

_HEADS = 8  # rows that a program gathers: several programs for one token
_PROGRAMS = 2112  # of the gate's backward pass, most of one warp: sixteen a multiprocessor of an H100
_WIDEST = 16_384
_FLOATS = (torch.bfloat16, torch.float16, torch.float32)


@triton.jit
def _lookup(
    context, numbers, table, ids, out, T, n, d, heads,
    N: tl.constexpr, GATHER: tl.constexpr, HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`numbers` int64: N multipliers | n moduli | n offsets. Products stay below 2^63, so that no remainder is
    negative."""
    t = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    ok = j < n
    mixed = tl.zeros((HEADS,), tl.int64) + tl.load(context + t * N) * tl.load(numbers)
    for back in tl.static_range(1, N):
        product = tl.load(context + t * N + back) * tl.load(numbers + back)
        mixed = tl.where(j // heads >= back - 1, mixed ^ product, mixed)
    modulus = tl.load(numbers + N + j, mask=ok, other=1)
    row = mixed % modulus + tl.load(numbers + N + n + j, mask=ok, other=0)
    tl.store(ids + t * n + j, row, mask=ok)
    if GATHER:
        c = tl.arange(0, BLOCK)[None, :]
        there = ok[:, None] & (c < d)
        value = tl.load(table + row[:, None] * d + c, mask=there, other=0.0)
        tl.store(out + (t * n + j[:, None]) * d + c, value, mask=there)


@triton.jit
def _scatter(ids, g, grad, n, d, HEADS: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    ok = j < n
    row = tl.load(ids + t * n + j, mask=ok, other=0)
    c = tl.arange(0, BLOCK)[None, :]
    there = ok[:, None] & (c < d)
    value = tl.load(g + (t * n + j[:, None]) * d + c, mask=there, other=0.0).to(tl.float32)
    tl.atomic_add(grad + row[:, None] * d + c, value, mask=there, sem="relaxed")


@triton.jit
def _products(q, k, wq, wk, D, root, eps):
    """Inverse roots of q and k, and s, FP32 scalars: s is the product of the normalised vectors times root = D^-0.5."""
    rq = tl.rsqrt(tl.sum(q * q, axis=0) / D + eps)
    rk = tl.rsqrt(tl.sum(k * k, axis=0) / D + eps)
    s = tl.sum(q * wq * (k * wk), axis=0) * rq * rk * root
    return rq, rk, s


@triton.jit
def gated(s):
    """sigmoid(sgn(s) sqrt(max(|s|, 1e-6)))."""
    root = tl.sqrt(tl.maximum(tl.abs(s), 1e-6))
    # Neither sign: a zero, or NaN, which stays one.
    return tl.sigmoid(tl.where(s > 0, root, tl.where(s < 0, -root, s)))


@triton.jit
def _gate(streams, keys, q_weight, k_weight, out, D, root, eps, M: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK)
    there = d < D
    own = row % M * D + d
    q = tl.load(streams + row * D + d, mask=there, other=0.0).to(tl.float32)
    k = tl.load(keys + row * D + d, mask=there, other=0.0).to(tl.float32)
    wq = tl.load(q_weight + own, mask=there, other=0.0).to(tl.float32)
    wk = tl.load(k_weight + own, mask=there, other=0.0).to(tl.float32)
    _, _, s = _products(q, k, wq, wk, D, root, eps)
    tl.store(out + row, gated(s))


@triton.jit
def _gate_backward(
    streams, keys, q_weight, k_weight, g, dstreams, dkeys, dq_weight, dk_weight, rows, D, root, eps, programs,
    M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows of one stream, one after another: programs are a multiple of M, so that the gains stay."""
    first = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK)
    there = d < D
    own = first % M * D + d
    wq = tl.load(q_weight + own, mask=there, other=0.0).to(tl.float32)
    wk = tl.load(k_weight + own, mask=there, other=0.0).to(tl.float32)
    dwq = tl.zeros((BLOCK,), tl.float32)
    dwk = tl.zeros((BLOCK,), tl.float32)
    for row in range(first, rows, programs):
        q = tl.load(streams + row * D + d, mask=there, other=0.0).to(tl.float32)
        k = tl.load(keys + row * D + d, mask=there, other=0.0).to(tl.float32)
        rq, rk, s = _products(q, k, wq, wk, D, root, eps)
        gate = gated(s)
        size = tl.abs(s)
        slope = tl.where(size >= 1e-6, 0.5 * tl.rsqrt(tl.maximum(size, 1e-6)), 0.0)
        ds = tl.load(g + row) * gate * (1.0 - gate) * slope
        both = ds * rq * rk * root
        dwq += both * q * k * wk
        dwk += both * q * k * wq
        dq = both * k * wq * wk - ds * s * rq * rq / D * q
        dk = both * q * wq * wk - ds * s * rk * rk / D * k
        tl.store(dstreams + row * D + d, dq.to(dstreams.dtype.element_ty), mask=there)
        tl.store(dkeys + row * D + d, dk.to(dkeys.dtype.element_ty), mask=there)
    tl.store(dq_weight + first * D + d, dwq, mask=there)
    tl.store(dk_weight + first * D + d, dwk, mask=there)


def lookup(context: Tensor, table: Tensor, plan: HashPlan) -> tuple[Tensor, Tensor]:
    """context [T, N] int64 (newest id first), table [R, d] -> rows [T, n d] in the table's dtype, and their numbers
    [T, n] int64; n = (N - 1) heads. Differentiable in the table. ValueError for a wrong shape or dtype."""
    _check_context(context, plan)
    if table.dim() != 2 or table.dtype not in _FLOATS or len(table) != plan.rows or not table.is_contiguous():
        raise ValueError(
            f"table is {table.dtype} {tuple(table.shape)}; it must be contiguous BF16, FP16 or FP32 of {plan.rows} rows"
        )
    return _Lookup.apply(context.contiguous(), table, plan)


def row_ids(context: Tensor, plan: HashPlan) -> Tensor:
    """context [T, N] int64 -> table rows [T, n] int64."""
    _check_context(context, plan)
    return _launch_lookup(context.contiguous(), None, plan)[1]


def gather(table: Tensor, ids: Tensor) -> Tensor:
    """table [R, d], ids [T, n] int64 -> the rows of each token side by side, [T, n d] in the table's dtype.

    Differentiable in the table. ValueError for a wrong shape or dtype.
    """
    if table.dim() != 2 or table.dtype not in _FLOATS:
        raise ValueError(f"table is {table.dtype} {tuple(table.shape)}; it must be BF16, FP16 or FP32 of shape [R, d]")
    if ids.dim() != 2 or ids.dtype != torch.int64:
        raise ValueError(f"ids is {ids.dtype} {tuple(ids.shape)}; it must be torch.int64 of shape [T, n]")
    return _Gather.apply(table, ids.contiguous())


def gate(streams: Tensor, keys: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """The gate of every stream, FP32 [T, M], of streams and keys [T, M, D] and gains [M, D].

    Differentiable in all four. ValueError for a wrong shape or dtype.
    """
    T, M, D = streams.shape
    if streams.dtype not in _FLOATS or not 1 <= D <= _WIDEST:
        raise ValueError(f"streams is {streams.dtype} of {D} channels; BF16, FP16 or FP32 and 1 to {_WIDEST} are valid")
    if tuple(keys.shape) != (T, M, D):
        raise ValueError(f"keys has the shape {tuple(keys.shape)}; streams has {(T, M, D)}")
    check_gains(q_weight, k_weight, M, D)
    return _Gate.apply(streams, keys, q_weight, k_weight, eps)


def check_gains(q_weight: Tensor, k_weight: Tensor, M: int, D: int) -> None:
    """Raise ValueError unless both are [M, D]."""
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        if tuple(weight.shape) != (M, D):
            raise ValueError(f"{name} has the shape {tuple(weight.shape)}; it must be {(M, D)}")


@lru_cache(maxsize=64)
def _numbers(plan: HashPlan, device: torch.device) -> Tensor:
    """Multipliers, moduli and offsets. The first call copies them to the device: it must come before a capture."""
    return torch.tensor([*plan.multipliers, *plan.moduli, *plan.offsets], dtype=torch.int64, device=device)


def _launch_lookup(context: Tensor, table: Tensor | None, plan: HashPlan) -> tuple[Tensor, Tensor]:
    T, n = len(context), len(plan.moduli)
    d = 0 if table is None else table.shape[1]
    ids = torch.empty((T, n), dtype=torch.int64, device=context.device)
    out = ids if table is None else table.new_empty((T, n * d))
    if T:
        _lookup[(T, triton.cdiv(n, _HEADS))](
            context, _numbers(plan, context.device), ids if table is None else table, ids, out, T, n, d, plan.heads,
            N=len(plan.multipliers), GATHER=table is not None, HEADS=_HEADS, BLOCK=triton.next_power_of_2(max(d, 1)),
            num_warps=4 if d > 32 else 1,
        )  # fmt: skip
    return out, ids


class _Lookup(torch.autograd.Function):
    """Keeps the numbers of the rows."""

    @staticmethod
    def forward(ctx: Any, context: Tensor, table: Tensor, plan: HashPlan) -> tuple[Tensor, Tensor]:
        out, ids = _launch_lookup(context, table, plan)
        ctx.save_for_backward(ids)
        ctx.shape, ctx.dtype = table.shape, table.dtype
        ctx.mark_non_differentiable(ids)
        return out, ids

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        return None, _table_gradient(ctx.saved_tensors[0], grads[0], ctx.shape, ctx.dtype), None


class _Gather(torch.autograd.Function):
    """Keeps the numbers of the rows."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.dtype = table.shape, table.dtype
        return F.embedding(ids, table).flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _table_gradient(ctx.saved_tensors[0], grads[0], ctx.shape, ctx.dtype), None


def _table_gradient(ids: Tensor, g: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Gradient [R, d] of a table from that of its rows side by side, [T, n d]."""
    (T, n), d = ids.shape, shape[1]
    grad = torch.zeros(shape, dtype=torch.float32, device=ids.device)
    if T:
        _scatter[(T, triton.cdiv(n, _HEADS))](
            ids, g.contiguous(), grad, n, d, HEADS=_HEADS, BLOCK=triton.next_power_of_2(d),
            num_warps=4 if d > 32 else 1,
        )  # fmt: skip
    return grad.to(dtype)


class _Gate(torch.autograd.Function):
    """Keeps the inputs."""

    @staticmethod
    def forward(
        ctx: Any, streams: Tensor, keys: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float
    ) -> Tensor:
        given = tuple(x.contiguous() for x in (streams, keys, q_weight, k_weight))
        ctx.save_for_backward(*given)
        ctx.eps = eps
        T, M, D = streams.shape
        out = streams.new_empty((T, M), dtype=torch.float32)
        if T:
            block = triton.next_power_of_2(D)
            _gate[(T * M,)](*given, out, D, D**-0.5, eps, M=M, BLOCK=block, num_warps=_warps(block))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        T, M, D = given[0].shape
        made = torch.empty_like(given[0]), torch.empty_like(given[1])
        programs = max(1, min(T, _PROGRAMS // M)) * M
        gains = given[0].new_zeros((2, programs, D), dtype=torch.float32)
        if T:
            block = triton.next_power_of_2(D)
            _gate_backward[(programs,)](
                *given, grads[0].contiguous(), *made, gains[0], gains[1], T * M, D, D**-0.5, ctx.eps, programs,
                M=M, BLOCK=block, num_warps=_warps(block),
            )  # fmt: skip
        summed = gains.view(2, -1, M, D).sum(1)
        return *made, summed[0].to(given[2].dtype), summed[1].to(given[3].dtype), None


def _warps(block: int) -> int:
    return min(16, max(1, block // 512))


def _check_context(context: Tensor, plan: HashPlan) -> None:
    N = len(plan.multipliers)
    if context.dim() != 2 or context.shape[1] != N or context.dtype != torch.int64:
        raise ValueError(f"context is {context.dtype} {tuple(context.shape)}; it must be torch.int64 of shape [T, {N}]")
