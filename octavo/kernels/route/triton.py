"""Choice of experts on a GPU: scores, the A best, their weights, in one launch after the product with the gate.

Covers: `choose` from router logits and `route` with the product, both without gradients. Does not cover: training,
where the scores carry a gradient (`ref`).
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.linear.triton import linear
from octavo.kernels.route.ref import Routing

_LOWEST = tl.constexpr(-(2**31))  # below the rank of every score
_MOST_EXPERTS = 1024
_FUSED_TOKENS = 64  # tokens up to which the product is split over its inner dimension


@triton.jit(do_not_specialize=["T"])
def _choose(
    logits, bias, table, experts, weights, scores, T, X, row_stride, scale,
    A: tl.constexpr, BLOCK_A: tl.constexpr, NORMALISE: tl.constexpr, BLOCK_X: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    expert = tl.arange(0, BLOCK_X)
    there = (row < T)[:, None] & (expert < X)[None, :]
    at = row.to(tl.int64)[:, None]
    z = tl.load(logits + at * row_stride + expert[None, :], mask=there, other=0.0).to(tl.float32)
    # 1 + e is off by its rounding; the quotient by what was really added takes that back.
    e = tl.exp(-tl.abs(z))
    u = 1.0 + e
    soft = tl.where(z > 0, z, 0.0) + tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))
    score = tl.where(z != z, z, tl.where(soft < 1e-38, 0.0, tl.sqrt(soft)))
    tl.store(scores + at * X + expert[None, :], score, mask=there)
    place = tl.arange(0, BLOCK_A)
    picked = tl.zeros((ROWS, BLOCK_A), tl.int32)
    own = tl.zeros((ROWS, BLOCK_A), tl.float32)
    if table is None:
        rank = score
        if bias is not None:
            rank += tl.load(bias + expert, mask=expert < X, other=0.0).to(tl.float32)[None, :]
        # Integers in the order of the values, NaN above all: maxima of them have no exceptions. No rank is -0.
        bits = rank.to(tl.int32, bitcast=True)
        key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        key = tl.where(rank != rank, 0x7FFFFFFF, key)
        key = tl.where(there, key, _LOWEST)
    for a in tl.static_range(A):
        if table is None:
            best = tl.min(tl.where(key == tl.max(key, 1)[:, None], expert[None, :], BLOCK_X), 1)
        else:
            best = tl.load(table + row.to(tl.int64) * A + a, mask=row < T, other=0).to(tl.int32)
        mine = expert[None, :] == best[:, None]
        if table is None:
            key = tl.where(mine, _LOWEST, key)
        here = (place == a)[None, :]
        picked = tl.where(here, best[:, None], picked)
        own = tl.where(here, tl.sum(tl.where(mine, score, 0.0), 1)[:, None], own)
    if NORMALISE:
        total = tl.sum(own, 1)
        own = own / tl.where(total < 1e-20, 1e-20, total)[:, None]
    kept = (row < T)[:, None] & (place < A)[None, :]
    tl.store(experts + at * A + place[None, :], picked.to(experts.dtype.element_ty), mask=kept)
    tl.store(weights + at * A + place[None, :], own * scale, mask=kept)


def choose(
    logits: Tensor,
    *,
    top: int,
    scale: float,
    normalise: bool,
    bias: Tensor | None = None,
    table_rows: Tensor | None = None,
    dtype: torch.dtype = torch.int64,
) -> Routing:
    """Router logits [T, X] -> experts [T, A] in `dtype` (int32 or int64), FP32 weights [T, A] and scores [T, X].

    The rest as in the package's contract: A = `top` best of scores + bias [X], ties to the lower expert, or the given
    `table_rows` [T, A]. X at most 1024. A NaN ranks above all, and its token's weights are NaN. ValueError for shapes.
    """
    T, X = logits.shape
    A = top if table_rows is None else table_rows.shape[1]
    if not 1 <= A <= X or X > _MOST_EXPERTS:
        raise ValueError(f"top is {A} of {X} experts; it must be 1 to {X}, and experts at most {_MOST_EXPERTS}")
    if table_rows is not None and table_rows.shape[0] != T:
        raise ValueError(f"table_rows has {table_rows.shape[0]} rows; it must have one for each of {T} tokens")
    if bias is not None and bias.shape != (X,):
        raise ValueError(f"bias is {list(bias.shape)}; it must be [{X}]")
    if torch.is_grad_enabled() and logits.requires_grad:
        raise ValueError("logits require a gradient; this choice has none")
    device = logits.device
    experts = torch.empty(T, A, dtype=dtype, device=device)
    weights, scores = torch.empty(T, A, device=device), torch.empty(T, X, device=device)
    if T == 0:
        return Routing(experts, weights, scores)
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    rows = 1 if T < 1024 else 4
    _choose[(triton.cdiv(T, rows),)](
        logits, bias, None if table_rows is None else table_rows.contiguous(), experts, weights, scores, T, X,
        logits.stride(0), scale, A, triton.next_power_of_2(A), normalise, triton.next_power_of_2(X), rows,
        num_warps=1 if T < 1024 else 4,
    )  # fmt: skip
    return Routing(experts, weights, scores)


def route(
    x: Tensor,
    gate: Tensor,
    *,
    top: int,
    scale: float,
    normalise: bool,
    bias: Tensor | None = None,
    table_rows: Tensor | None = None,
) -> Routing:
    """See the package docstring for the contract; x [T, D] and gate [X, D] of one dtype, BF16 or FP32.

    Products of BF16 are exact in FP32 and summed there, by the library's product from 65 tokens on.
    """
    if x.shape[0] <= _FUSED_TOKENS or not x.is_cuda:
        logits = linear(x, gate, dtype=torch.float32)
    elif x.dtype == torch.bfloat16:
        logits = torch.mm(x, gate.T, out_dtype=torch.float32)
    else:
        logits = torch.mm(x, gate.T)
    return choose(logits, top=top, scale=scale, normalise=normalise, bias=bias, table_rows=table_rows)
