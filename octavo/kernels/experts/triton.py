"""Routed and shared experts on a GPU, forward: BF16, FP8 or FP4 weights, few and many tokens.

Covers: one kernel for gate, up and activation, one for down, one that adds up each token's parts in order; few tokens
find their experts in the kernel, many are sorted first (`schedule`). Gradients: `triton_backward`. Does not cover:
rounding on the way, formats other than `ExpertWeights`.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

import math
from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo.kernels.experts.schedule import Schedule, schedule
from octavo.kernels.experts.weights import ExpertFormat, ExpertWeights
from octavo.kernels.linear.packed import BLOCK, Tiles, depends, ordered_sum, pack, place, product
from octavo.kernels.linear.triton import wide

_FEW_TOKENS = 16
_FEW_PAIRS = 128  # pairs that one program of the kernels for few tokens looks through
# Sizes for few pairs with FP4 weights: (pairs up to, sizes), the first that fits.
FEW_FP4 = ((12, Tiles(64, 16, BLOCK, 4, 4)), (_FEW_PAIRS, Tiles(128, 16, BLOCK, 4, 4)))
# Few pairs: whether kernels begin before those in front have ended, and ask for their weights meanwhile. On an H200 it
# was no faster with any of ten sizes at 1, 2 and 4 tokens.
AHEAD = False
_PACK_FROM = 64  # tokens of a tile from which x is written in packed order before it is read once for every expert


def tiles_for(pairs: int, experts: int, D: int, F: int, *, form: ExpertFormat, deep: bool = True) -> Tiles:
    """Block sizes for `pairs` over `experts`: tiles hold a quarter more tokens than an expert has on average. Not
    `deep`: inputs in FP32, whose tiles are twice as large, so that fewer of them are in flight."""
    mean = pairs / experts * (1.25 if experts > 1 else 1)
    tokens = min(max(triton.next_power_of_2(math.ceil(mean)), 16), 128)
    if form == "bf16":
        whole = math.gcd(D, F)
        width = min(64 if tokens > 32 else 128, whole & -whole)
        return Tiles(128 if tokens > 16 else 64, tokens, width, 8 if tokens > 64 else 4, 4 if deep else 2)
    # Four warps: two programs share a multiprocessor (and its 227 KiB), and one decodes while the other multiplies.
    stages = 4 if tokens <= 32 else (3 if form == "fp4" or tokens <= 64 else 2)
    # A single expert has few rows to share out.
    return Tiles(64 if experts == 1 and pairs <= tokens else 128, tokens, BLOCK, 4, stages)


def tiles_for_few(pairs: int, D: int, F: int, *, form: ExpertFormat, experts: int, deep: bool = True) -> Tiles:
    """As `tiles_for`, for at most _FEW_PAIRS pairs of at most _FEW_TOKENS tokens."""
    if form != "fp4":
        return tiles_for(pairs, experts, D, F, form=form, deep=deep)
    tiles = next(sizes for most, sizes in FEW_FP4 if pairs <= most)
    return replace(tiles, width=math.gcd(tiles.width, D, F))


@triton.jit
def _members(chosen, entry, N, first, TOKENS: tl.constexpr, BLOCK: tl.constexpr):
    """Expert of pair `entry`, how many pairs share it if this is the first of them (else 0), and the pairs from number
    `first` on: -> expert, count, pairs [TOKENS], which of them are real [TOKENS]."""
    each = tl.arange(0, BLOCK)
    expert = tl.load(chosen + entry).to(tl.int32)
    listed = each < tl.where(expert >= 0, N, 0)
    same = (tl.load(chosen + each, mask=listed, other=-1).to(tl.int32) == expert) & listed
    count = tl.sum(same.to(tl.int32))
    count = tl.where(tl.min(tl.where(same, each, BLOCK)) == entry, count, 0)
    slot = first + tl.arange(0, TOKENS)
    number = tl.cumsum(same.to(tl.int32)) - 1
    found = same[None, :] & (number[None, :] == slot[:, None])
    return expert, count, tl.sum(tl.where(found, each[None, :], 0), 1), slot < count


@triton.jit
def sorted_pairs(order, tiles, TILES, TOKENS: tl.constexpr):
    """Expert (-1: surplus), pairs [TOKENS] and which of them are real, of this program's tile. Without an order every
    token passes expert 0, and TILES is the number of tokens."""
    tile = tl.program_id(1)
    slot = tl.arange(0, TOKENS)
    if order is None:
        pair = tile * TOKENS + slot
        return tile * 0, pair, pair < TILES
    else:
        expert = tl.load(tiles + tile)
        live = slot < tl.where(expert >= 0, tl.load(tiles + 2 * TILES + tile), 0)
        return expert, tl.load(order + tl.load(tiles + TILES + tile) + slot, mask=live, other=0), live


@triton.jit
def row_starts(row, expert, OUT: tl.constexpr, IN: tl.constexpr, FORMAT: tl.constexpr):
    """Offsets of weight rows of an expert, in stored elements, and of their scales, in bytes."""
    per_word: tl.constexpr = 8 if FORMAT == "fp4" else (4 if FORMAT == "fp8" else 1)
    wide_row = expert.to(tl.int64) * OUT + row
    if FORMAT == "fp8":
        scale_row = (expert.to(tl.int64) * ((OUT + 127) // 128) + row // 128) * (IN // 128)
    else:
        scale_row = wide_row * (IN // 32)
    return wide_row * (IN // per_word), scale_row


@triton.jit
def _up(
    x, w1, s1, w_gap, s_gap, share, hidden, gates, ups, expert, pair, live, limit,
    A: tl.constexpr, D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, PACKED: tl.constexpr, SAVE: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # Rows alternate between gate and up by eights, which is how a warp holds them: the two meet in registers.
    row = tl.arange(0, ROWS)
    at = tl.program_id(0) * (ROWS // 2) + row // 16 * 8 + row % 8
    channel = tl.minimum(at, F - 1)
    if FORMAT != "dense":
        channel = place(channel)
    w_start, s_start = row_starts(channel, expert, F, D, FORMAT)
    is_up = row // 8 % 2
    both = product(
        x + (pair // A).to(tl.int64) * D, live, w1 + w_start + is_up * w_gap, s1 + s_start + is_up * s_gap,
        0, D // WIDTH, ROWS, TOKENS, WIDTH, FORMAT, PACKED, WIDE,
    )  # fmt: skip
    both = tl.permute(tl.reshape(both, (ROWS // 16, 2, 8, TOKENS)), (0, 2, 3, 1))
    gate, up = tl.split(tl.reshape(both, (ROWS // 2, TOKENS, 2)))
    at = tl.program_id(0) * (ROWS // 2) + tl.arange(0, ROWS // 2)
    to = pair.to(tl.int64)[None, :] * F + at[:, None]
    stored = (at < F)[:, None] & live[None, :]
    if SAVE:
        tl.store(gates + to, gate.to(gates.dtype.element_ty), mask=stored)
        tl.store(ups + to, up.to(ups.dtype.element_ty), mask=stored)
    gate = tl.minimum(gate, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.minimum(up, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.maximum(up, -limit, propagate_nan=tl.PropagateNan.ALL)
    made = gate / (1.0 + tl.exp(-gate)) * up
    if share is not None:
        made *= tl.load(share + pair, mask=live, other=0.0).to(tl.float32)[None, :]
    tl.store(hidden + to, made.to(hidden.dtype.element_ty), mask=stored)


@triton.jit
def _down(
    hidden, w2, s2, parts, expert, pair, live,
    D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    w_start, s_start = row_starts(tl.minimum(row, D - 1), expert, D, F, FORMAT)
    part = product(
        hidden + pair.to(tl.int64) * F, live, w2 + w_start, s2 + s_start, 0, F // WIDTH,
        ROWS, TOKENS, WIDTH, FORMAT, True, WIDE,
    )  # fmt: skip
    to = parts + pair.to(tl.int64)[None, :] * D + row[:, None]
    tl.store(to, part.to(parts.dtype.element_ty), mask=(row < D)[:, None] & live[None, :])


@triton.jit(do_not_specialize=["TILES"])
def _up_many(
    x, w1, s1, w_gap, s_gap, share, hidden, gates, ups, order, tiles, limit, TILES,
    A: tl.constexpr, D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, PACKED: tl.constexpr, SAVE: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    expert, pair, live = sorted_pairs(order, tiles, TILES, TOKENS)
    if expert >= 0:
        _up(x, w1, s1, w_gap, s_gap, share, hidden, gates, ups, expert, pair, live, limit,
            A, D, F, FORMAT, PACKED, SAVE, WIDE, ROWS, TOKENS, WIDTH)  # fmt: skip


@triton.jit(do_not_specialize=["TILES"])
def _down_many(
    hidden, w2, s2, parts, order, tiles, TILES,
    D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    expert, pair, live = sorted_pairs(order, tiles, TILES, TOKENS)
    if expert >= 0:
        _down(hidden, w2, s2, parts, expert, pair, live, D, F, FORMAT, WIDE, ROWS, TOKENS, WIDTH)


@triton.jit
def _ask_for(rows, BYTES: tl.constexpr):
    """Whole rows of memory into the second-level cache, without waiting; pointers to 16 bytes each."""
    size = tl.full(rows.shape, BYTES, tl.int32)
    tl.inline_asm_elementwise(
        "cp.async.bulk.prefetch.L2.global [$1], $2;\nmov.b32 $0, 0;", "=r,l,r", [rows.to(tl.uint64), size],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit(do_not_specialize=["N"])
def _up_few(
    x, w1, s1, w_gap, s_gap, share, hidden, chosen, limit, N,
    A: tl.constexpr, D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr, AHEAD: tl.constexpr,
    ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if AHEAD:
        gdc_launch_dependents()
    entry = tl.program_id(1)
    expert, count, pair, live = _members(chosen, entry, N, 0, TOKENS, BLOCK)
    for first in range(0, count, TOKENS):
        expert, count, pair, live = _members(chosen, entry, N, first, TOKENS, BLOCK)
        _up(x, w1, s1, w_gap, s_gap, share, hidden, hidden, hidden, expert, pair, live, limit,
            A, D, F, FORMAT, False, False, WIDE, ROWS, TOKENS, WIDTH)  # fmt: skip


@triton.jit(do_not_specialize=["N"])
def _down_few(
    hidden, w2, s2, parts, chosen, N,
    D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr, AHEAD: tl.constexpr,
    ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    entry = tl.program_id(1)
    expert, count, pair, live = _members(chosen, entry, N, 0, TOKENS, BLOCK)
    if AHEAD:
        gdc_launch_dependents()
        if FORMAT == "fp4" and count > 0:
            row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
            w_start, s_start = row_starts(tl.minimum(row, D - 1), expert, D, F, FORMAT)
            _ask_for(w2 + w_start, F // 2)
            if F % 512 == 0:
                _ask_for(s2 + s_start, F // 32)
        gdc_wait()  # for `hidden`; `chosen` is older than the kernel that makes it
    for first in range(0, count, TOKENS):
        expert, count, pair, live = _members(chosen, entry, N, first, TOKENS, BLOCK)
        _down(hidden, w2, s2, parts, expert, pair, live, D, F, FORMAT, WIDE, ROWS, TOKENS, WIDTH)


def passed(
    x: Tensor, weights: ExpertWeights, chosen: Tensor | None, share: Tensor | None, limit: float | None, tiles: Tiles,
    *, save: bool = False, dtype: torch.dtype = torch.float32, up: Tiles | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Schedule | None]:  # fmt: skip
    """Parts [T A, D] in `dtype` of every pair (unwritten where `chosen` is negative; without `chosen` of every token
    with expert 0), hidden [T A, F], and with `save` gate and up [T A, F] before the clamps, and the schedule. `up`:
    sizes of gate's and up's product, if others, for as many tokens."""
    (T, D), (X, F, _) = x.shape, weights.shape
    A = 1 if chosen is None else chosen.shape[1]
    pairs = T * A
    plan = None if chosen is None else schedule(chosen, X, tiles.tokens)
    packed = not weights.dense and tiles.tokens >= _PACK_FROM
    hidden, gates, ups = (x.new_empty(pairs if real else 0, F) for real in (True, save, save))
    parts = torch.empty(pairs, D, dtype=dtype, device=x.device)
    most = triton.cdiv(pairs, tiles.tokens) if plan is None else plan.tiles.shape[1]
    order, listed, count = (None, None, pairs) if plan is None else (plan.order, plan.tiles, most)
    (w1, s1, w_gap, s_gap), (w2, s2) = weights.up(), weights.down()
    form = "dense" if weights.dense else weights.format
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    up = up or tiles
    ups_options = {"num_warps": up.warps, "num_stages": up.stages}
    _up_many[(triton.cdiv(F, up.rows // 2), most)](
        pack(x) if packed else x, w1, s1, w_gap, s_gap, share, hidden, gates, ups, order, listed, bound(limit), count,
        A, D, F, form, packed, save, wide(x), up.rows, up.tokens, up.width, **ups_options,
    )  # fmt: skip
    _down_many[(triton.cdiv(D, tiles.rows), most)](
        hidden, w2, s2, parts, order, listed, count,
        D, F, form, wide(x), tiles.rows, tiles.tokens, tiles.width, **options,
    )  # fmt: skip
    return parts, hidden, gates, ups, plan


def _passed_few(
    x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, limit: float | None, tiles: Tiles, ahead: bool
) -> Tensor:
    """`passed` for at most _FEW_PAIRS pairs: parts [T A, D]. `ahead`: whoever reads them has to wait itself."""
    (T, D), F, A = x.shape, weights.shape[1], chosen.shape[1]
    hidden = x.new_empty(T * A, F)
    parts = torch.empty(T * A, D, dtype=torch.float32, device=x.device)
    (w1, s1, w_gap, s_gap), (w2, s2) = weights.up(), weights.down()
    form = "dense" if weights.dense else weights.format
    block = triton.next_power_of_2(T * A)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    dependent = {"launch_pdl": True} if ahead else {}
    _up_few[(triton.cdiv(F, tiles.rows // 2), T * A)](
        x, w1, s1, w_gap, s_gap, share, hidden, chosen, bound(limit), T * A,
        A, D, F, form, wide(x), ahead, tiles.rows, tiles.tokens, tiles.width, block, **options,
    )  # fmt: skip
    _down_few[(triton.cdiv(D, tiles.rows), T * A)](
        hidden, w2, s2, parts, chosen, T * A,
        D, F, form, wide(x), ahead, tiles.rows, tiles.tokens, tiles.width, block, **options, **dependent,
    )  # fmt: skip
    return parts


def experts(
    x: Tensor,
    weights: ExpertWeights,
    chosen: Tensor,
    share: Tensor,
    *,
    limit: float | None,
    shared: ExpertWeights | None = None,
    dtype: torch.dtype = torch.float32,
    tiles: Tiles | None = None,
) -> Tensor:
    """x [T, D], chosen [T, A] (int32 or int64; negative: none), share [T, A] -> [T, D] in `dtype`.

    The sum over a of expert chosen[t, a] with weight share[t, a], in the order of a, plus the `shared` expert (stacked
    with X = 1, any format) with weight 1; FP32 inside, the hidden vector in x's dtype. No gradient. The same input
    gives the same bits. ValueError for shapes and dtypes that do not fit.
    """
    check(x, weights, chosen, share, shared)
    (T, D), (X, F, _), A = x.shape, weights.shape, chosen.shape[1]
    if T == 0:
        return torch.empty(0, D, dtype=dtype, device=x.device)
    x, chosen, share = x.contiguous(), chosen.contiguous(), share.contiguous()
    more, few, ahead = None, T <= _FEW_TOKENS and T * A <= _FEW_PAIRS, False
    if shared is not None:
        sizes = tiles_for(T, 1, D, shared.shape[1], form=shared.format, deep=not wide(x))
        more = passed(x, shared, None, None, limit, sizes)[0]
    if few:
        ahead = AHEAD and weights.format == "fp4" and depends(x.device)
        sizes = tiles or tiles_for_few(T * A, D, F, form=weights.format, experts=X, deep=not wide(x))
        parts = _passed_few(x, weights, chosen, share, limit, sizes, ahead)
    else:
        sizes = tiles or tiles_for(T * A, X, D, F, form=weights.format, deep=not wide(x))
        parts = passed(x, weights, chosen, share, limit, sizes)[0]
    return ordered_sum(parts.view(T, A, D), dtype, chosen=chosen, more=more, dependent=ahead)


def check(x: Tensor, weights: ExpertWeights, chosen: Tensor, share: Tensor, shared: ExpertWeights | None) -> None:
    """ValueError unless the tensors fit together and no gradient is asked for."""
    if x.dim() != 2 or x.shape[1] != weights.shape[2]:
        raise ValueError(f"x is {list(x.shape)}; it must be [T, {weights.shape[2]}]")
    if x.dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(f"x is {x.dtype}; it must be bfloat16 or float32")
    if chosen.dim() != 2 or chosen.shape[0] != x.shape[0] or chosen.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"chosen is {chosen.dtype} {list(chosen.shape)}; it must be int32 or int64 [{x.shape[0]}, A]")
    if share.shape != chosen.shape:
        raise ValueError(f"share is {list(share.shape)}; chosen is {list(chosen.shape)} and so must it be")
    for name, one in (("weights", weights), ("shared", shared)):
        if one is not None and one.dense and one.w1.dtype != x.dtype:
            raise ValueError(f"{name} are {one.w1.dtype}; they must be of x's {x.dtype}")
    if shared is not None and shared.shape[::2] != (1, x.shape[1]):
        raise ValueError(f"shared is {shared.shape[0]} experts of width {shared.shape[2]}, not 1 of {x.shape[1]}")
    leaves = (x, share, weights.w1, weights.w3, weights.w2)
    if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves):
        raise ValueError("x, share or weights require a gradient; use experts.triton_backward.experts")


def bound(limit: float | None) -> float:
    """The limit as a number."""
    return math.inf if limit is None else limit
