"""Routed and shared experts on a GPU for many tokens, on the FP8 matrix units: FP4 or FP8 weights, rounded activations.

Covers: activations and hidden vectors rounded to e4m3 with a power-of-two scale for each 128 channels (the rule of
`octavo.kernels.quant`), their products with weights that become e4m3 in registers, forward only. Does not cover: BF16
activations, few tokens, gradients (`triton`, `triton_backward`).

A stack of experts takes these launches: the factors of the tokens' groups are spread to the tiles, the largest scales
of the weights' rows found, gate and up multiplied and joined, the hidden vectors, which lie in the order of the tiles,
rounded, and down multiplied. Each token's parts are then added in the order of A.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.bits import e8m0_of, from_e8m0, inverse_e8m0, magnitude, to_e4m3
from octavo.kernels.experts.schedule import Schedule, schedule
from octavo.kernels.experts.triton import bound, check, row_starts
from octavo.kernels.experts.weights import ExpertWeights
from octavo.kernels.linear.packed import BLOCK, Tiles, ordered_sum
from octavo.kernels.linear.packed_fp8 import packed, product, row_tops

_MOST = 64  # tokens of a tile: with 128 measured slower by a fifth, registers are short
_ROUNDED = 16  # rows of a program that rounds; a tile's tokens are a multiple
_SPREAD = 8  # groups of factors that a program spreads


@triton.jit
def _tile(tiles, TILES, rows, TOKENS: tl.constexpr):
    """Expert (-1: surplus) of this program's tile, its first row and how many it has. Without tiles every row passes
    expert 0."""
    tile = tl.program_id(1)
    if tiles is None:
        return tile * 0, tile * TOKENS, tl.minimum(rows - tile * TOKENS, TOKENS)
    else:
        return tl.load(tiles + tile), tl.load(tiles + TILES + tile), tl.load(tiles + 2 * TILES + tile)


@triton.jit(do_not_specialize=["TILES", "rows"])
def _round(x, codes, factors, tiles, TILES, rows, places, N: tl.constexpr, TOKENS: tl.constexpr, ROUNDED: tl.constexpr):
    """Rows of x to codes in packed order; factors [N / 128, places], a tile's from its number times TOKENS on."""
    expert, first, count = _tile(tiles, TILES, rows, TOKENS)
    slot = tl.program_id(2) * ROUNDED + tl.arange(0, ROUNDED)
    if expert >= 0:
        row = (first + slot).to(tl.int64)[:, None] * N
        channel = tl.program_id(0) * 128 + tl.arange(0, 128)
        live = (slot < count)[:, None]
        values = tl.load(x + row + channel[None, :], mask=live, other=0.0).to(tl.float32)
        scale = e8m0_of(tl.max(magnitude(values), axis=1).to(tl.float32, bitcast=True), 448)
        made = packed(to_e4m3(values * inverse_e8m0(scale)[:, None]), ROUNDED)
        tl.store(codes + row + channel[None, :], made, mask=live)
        to = factors + tl.program_id(0) * places + tl.program_id(1) * TOKENS + slot
        tl.store(to, from_e8m0(scale))  # also where there is no row: the products load whole tiles of factors


@triton.jit(do_not_specialize=["TILES"])
def _spread(
    factors, spread, order, tiles, TILES, T, places, A: tl.constexpr, TOKENS: tl.constexpr, GROUPS: tl.constexpr,
    BLOCK_G: tl.constexpr,
):  # fmt: skip
    """Factors [GROUPS, T] of tokens -> [GROUPS, places] of the pairs in their tiles."""
    expert, first, count = _tile(tiles, TILES, 0, TOKENS)
    if expert >= 0:
        slot, group = tl.arange(0, TOKENS), tl.program_id(0) * BLOCK_G + tl.arange(0, BLOCK_G)
        token = tl.load(order + first + slot, mask=slot < count, other=0) // A
        inside = (group < GROUPS)[:, None]
        values = tl.load(factors + group[:, None] * T + token[None, :], mask=inside, other=0.0)
        to = spread + group[:, None] * places + tl.program_id(1) * TOKENS + slot[None, :]
        tl.store(to, values, mask=inside)


@triton.jit(do_not_specialize=["TILES", "rows"])
def _up(
    codes, factors, w1, s1, tops, w_gap, s_gap, t_gap, share, hidden, order, tiles, limit, TILES, rows, places,
    A: tl.constexpr, D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
):  # fmt: skip
    expert, first, count = _tile(tiles, TILES, rows, TOKENS)
    if expert >= 0:
        slot, row = tl.arange(0, TOKENS), tl.arange(0, ROWS)
        live = slot < count
        pair = first + slot
        if order is not None:
            pair = tl.load(order + pair, mask=live, other=0)
        # Rows alternate between gate and up by eights, which is how a warp holds them: the two meet in registers.
        begin = tl.program_id(0) * (ROWS // 2)
        channel = begin + row // 16 * 8 + row % 8
        w_start, s_start = row_starts(channel, expert, F, D, FORMAT)
        is_up = row // 8 % 2
        both = product(
            codes + (pair // A).to(tl.int64) * D, live, factors + tl.program_id(1) * TOKENS + slot, places,
            w1 + w_start + is_up * w_gap, s1 + s_start + is_up * s_gap, tops + expert * F + channel + is_up * t_gap,
            D, ROWS, TOKENS, FORMAT, WIDE,
        )  # fmt: skip
        both = tl.permute(tl.reshape(both, (ROWS // 16, 2, 8, TOKENS)), (0, 2, 3, 1))
        gate, up = tl.split(tl.reshape(both, (ROWS // 2, TOKENS, 2)))
        gate = tl.minimum(gate, limit, propagate_nan=tl.PropagateNan.ALL)
        up = tl.minimum(up, limit, propagate_nan=tl.PropagateNan.ALL)
        up = tl.maximum(up, -limit, propagate_nan=tl.PropagateNan.ALL)
        made = gate / (1.0 + tl.exp(-gate)) * up
        if share is not None:
            made *= tl.load(share + pair, mask=live, other=0.0).to(tl.float32)[None, :]
        to = (first + slot).to(tl.int64)[None, :] * F + (begin + tl.arange(0, ROWS // 2))[:, None]
        tl.store(hidden + to, made.to(hidden.dtype.element_ty), mask=live[None, :])


@triton.jit(do_not_specialize=["TILES", "rows"])
def _down(
    codes, factors, w2, s2, tops, parts, order, tiles, TILES, rows, places,
    D: tl.constexpr, F: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
):  # fmt: skip
    expert, first, count = _tile(tiles, TILES, rows, TOKENS)
    if expert >= 0:
        slot, begin = tl.arange(0, TOKENS), tl.program_id(0) * ROWS
        row = begin + tl.arange(0, ROWS)
        live = slot < count
        w_start, s_start = row_starts(row, expert, D, F, FORMAT)
        part = product(
            codes + (first + slot).to(tl.int64) * F, live, factors + tl.program_id(1) * TOKENS + slot, places,
            w2 + w_start, s2 + s_start, tops + expert * D + row, F, ROWS, TOKENS, FORMAT, WIDE,
        )  # fmt: skip
        pair = first + slot
        if order is not None:
            pair = tl.load(order + pair, mask=live, other=0)
        tl.store(parts + pair.to(tl.int64)[None, :] * D + row[:, None], part, mask=live[None, :])


def tiles_for(pairs: int, experts: int) -> Tiles:
    """Block sizes for `pairs` over `experts`: tiles hold a quarter more tokens than an expert has on average."""
    mean = pairs / experts * (1.25 if experts > 1 else 1)
    tokens = min(max(triton.next_power_of_2(math.ceil(mean)), _ROUNDED), _MOST)
    return Tiles(128, tokens, BLOCK, 4, 3)


@dataclass(frozen=True)
class Rounded:
    """e4m3 codes [rows, N] in packed order and FP32 factors [N / 128, places]."""

    codes: Tensor
    factors: Tensor

    def loaded(self) -> Tensor:
        """The codes as the kernels load them; the interpreter knows no FP8."""
        return self.codes.view(torch.float8_e4m3fn) if self.codes.is_cuda else self.codes


@dataclass(frozen=True)
class Work:
    """What passes one stack of experts: `pairs` rows in tiles, those of the plan (A pairs a token) or one after the
    other (A = 1, one expert)."""

    weights: ExpertWeights
    tiles: Tiles
    pairs: int
    A: int
    plan: Schedule | None

    @property
    def most(self) -> int:
        """Tiles there are at most."""
        return triton.cdiv(self.pairs, self.tiles.tokens) if self.plan is None else self.plan.tiles.shape[1]

    def listed(self) -> tuple[Tensor | None, Tensor | None]:
        """Order and tiles of the plan."""
        return (None, None) if self.plan is None else (self.plan.order, self.plan.tiles)

    def options(self) -> dict[str, int]:
        """Options of a launch."""
        return {"num_warps": self.tiles.warps, "num_stages": self.tiles.stages}


def rounded(x: Tensor, listed: Tensor | None, tokens: int, most: int) -> Rounded:
    """x [rows, N] in `most` tiles of `tokens`, the listed ones or one after the other."""
    rows, N = x.shape
    codes = torch.empty(rows, N, dtype=torch.uint8, device=x.device)
    factors = torch.empty(N // BLOCK, most * tokens, dtype=torch.float32, device=x.device)
    _round[(N // BLOCK, most, tokens // _ROUNDED)](
        x, codes, factors, listed, most, rows, most * tokens, N, tokens, _ROUNDED, num_warps=4
    )
    return Rounded(codes, factors)


def _spread_over(factors: Tensor, work: Work) -> Tensor:
    """Factors [N / 128, places] of the work's pairs, from those of the tokens."""
    (groups, tokens), places = factors.shape, work.most * work.tiles.tokens
    order, listed = work.listed()
    if order is None:
        return factors
    spread = torch.empty(groups, places, dtype=torch.float32, device=factors.device)
    _spread[(triton.cdiv(groups, _SPREAD), work.most)](
        factors, spread, order, listed, work.most, tokens, places, work.A, work.tiles.tokens, groups, _SPREAD
    )
    return spread


def _tops(weights: ExpertWeights, *parts: str) -> Tensor:
    """What the kernels take as the rows' largest scales, found once for the same weights: of FP8, whose scales are
    whole tiles', nothing is read."""
    stored = [one for part in parts if (one := getattr(weights, part)) is not None]
    if weights.format != "fp4":
        return stored[0].view(torch.uint8)
    if parts not in weights.found:
        weights.found[parts] = row_tops(*stored)
    return weights.found[parts]


def to_hidden(x: Rounded, work: Work, share: Tensor | None, limit: float | None, dtype: torch.dtype) -> Tensor:
    """Hidden vectors [pairs, F] in `dtype`, in the order of the work; x: all tokens, rounded."""
    weights, sizes = work.weights, work.tiles
    _, F, D = weights.shape
    hidden = torch.empty(work.pairs, F, dtype=dtype, device=x.codes.device)
    factors, (order, listed) = _spread_over(x.factors, work), work.listed()
    (w1, s1, w_gap, s_gap), tops = weights.up(), _tops(weights, "s1", "s3")
    _up[(F * 2 // sizes.rows, work.most)](
        x.loaded(), factors, w1, s1, tops, w_gap, s_gap, tops.numel() // 2, share, hidden, order, listed, bound(limit),
        work.most, work.pairs, factors.shape[1], work.A, D, F, weights.format, not hidden.is_cuda, sizes.rows,
        sizes.tokens, **work.options(),
    )  # fmt: skip
    return hidden


def to_parts(hidden: Tensor, work: Work) -> Tensor:
    """Hidden vectors [pairs, F], rounded here, to parts [pairs, D] FP32 in the order of the pairs."""
    weights, sizes = work.weights, work.tiles
    _, F, D = weights.shape
    parts = torch.empty(work.pairs, D, dtype=torch.float32, device=hidden.device)
    order, listed = work.listed()
    x = rounded(hidden, listed, sizes.tokens, work.most)
    (w2, s2), tops = weights.down(), _tops(weights, "s2")
    _down[(D // sizes.rows, work.most)](
        x.loaded(), x.factors, w2, s2, tops, parts, order, listed, work.most, work.pairs, x.factors.shape[1],
        D, F, weights.format, not hidden.is_cuda, sizes.rows, sizes.tokens, **work.options(),
    )  # fmt: skip
    return parts


def work_of(weights: ExpertWeights, chosen: Tensor | None, T: int, tiles: Tiles | None) -> Work:
    """Work of T tokens with the chosen experts, or with the only one."""
    if chosen is None:
        return Work(weights, tiles or tiles_for(T, 1), T, 1, None)
    sizes = tiles or tiles_for(chosen.numel(), weights.shape[0])
    return Work(weights, sizes, chosen.numel(), chosen.shape[1], schedule(chosen, weights.shape[0], sizes.tokens))


def experts_fp8(
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

    As `triton.experts`, with x and the hidden vectors (in x's dtype, weighted) rounded to FP8 with a power-of-two scale
    for each 128 channels, and weights in "fp4" or "fp8"; sums are FP32. FP4 groups more than 2^11 below the largest
    scale of their row count as zero. No gradient. The same input gives the same bits. ValueError for shapes, dtypes,
    formats and tiles that do not fit.
    """
    check(x, weights, chosen, share, shared)
    _check_small(weights, shared, tiles)
    T, D = x.shape
    if T == 0:
        return torch.empty(0, D, dtype=dtype, device=x.device)
    chosen, share = chosen.contiguous(), share.contiguous()
    made = rounded(x.contiguous(), None, BLOCK, triton.cdiv(T, BLOCK))
    work = work_of(weights, chosen, T, tiles)
    parts = to_parts(to_hidden(made, work, share, limit, x.dtype), work)
    more = None
    if shared is not None:
        work = work_of(shared, None, T, None)
        more = to_parts(to_hidden(made, work, None, limit, x.dtype), work)
    return ordered_sum(parts.view(*chosen.shape, D), dtype, chosen=chosen, more=more)


def _check_small(weights: ExpertWeights, shared: ExpertWeights | None, tiles: Tiles | None) -> None:
    for name, one in (("weights", weights), ("shared", shared)):
        if one is not None and one.dense:
            raise ValueError(f"{name} are bf16; FP8 products need fp4 or fp8")
    if tiles is None:
        return
    if tiles.width != BLOCK or BLOCK % tiles.rows or tiles.rows < 16:
        raise ValueError(f"tiles are {tiles.rows} rows, {tiles.width} wide; they must be 16 to 128 rows, 128 wide")
    if tiles.tokens % _ROUNDED or tiles.tokens & (tiles.tokens - 1):
        raise ValueError(f"tiles have {tiles.tokens} tokens; they must be a power of two from {_ROUNDED} on")
