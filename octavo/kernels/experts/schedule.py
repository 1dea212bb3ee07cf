"""Who works on what when experts are grouped: tokens in the order of their experts and tiles over them, on the device.

Covers: a stable counting sort and the list of tiles, two launches, without the host knowing a count. Does not cover:
the products over the tiles (`triton`).
"""

# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096  # pairs looked at together
_CHUNKS = 32  # programs of an expert at most: each takes a run of pairs


@dataclass(frozen=True)
class Schedule:
    """Pairs (token t, choice a), numbered t A + a, sorted by expert, and tiles of at most `rows` of them.

    order: int32 [T A], the sorted pairs, those with a negative expert missing from the end. starts: int32 [X + 1]: the
    pairs of expert e are order[starts[e] : starts[e + 1]]. tiles: int32 [3, n]: expert, first place in `order` and
    number of pairs of each tile; n is the most there can be, and surplus tiles have expert -1.
    """

    order: Tensor
    starts: Tensor
    tiles: Tensor
    rows: int


@triton.jit(do_not_specialize=["N"])
def _count(chosen, counts, N, chunk, BLOCK: tl.constexpr):
    """Pairs of an expert within a chunk of them."""
    expert, first = tl.program_id(0), tl.program_id(1) * chunk
    found = tl.zeros((BLOCK,), tl.int32)
    for start in range(first, tl.minimum(first + chunk, N), BLOCK):
        pair = start + tl.arange(0, BLOCK)
        found += (tl.load(chosen + pair, mask=pair < N, other=-1) == expert).to(tl.int32)
    tl.store(counts + expert * tl.num_programs(1) + tl.program_id(1), tl.sum(found))


@triton.jit(do_not_specialize=["N", "TILES"])
def _place(chosen, counts, order, starts, tiles, N, X, TILES, chunk, ROWS: tl.constexpr, BLOCK_X: tl.constexpr,
           BLOCK_C: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    expert, part, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    each, piece = tl.arange(0, BLOCK_X), tl.arange(0, BLOCK_C)
    there = (each < X)[:, None] & (piece < chunks)[None, :]
    count = tl.load(counts + each[:, None] * chunks + piece[None, :], mask=there, other=0)
    before = tl.sum(tl.sum(tl.where((each == expert)[:, None] & (piece < part)[None, :], count, 0), 1))
    count = tl.sum(count, 1)
    first = tl.sum(tl.where(each < expert, count, 0))
    if part == 0:
        tiles_of = (count + ROWS - 1) // ROWS
        own = tl.sum(tl.where(each == expert, count, 0))
        first_tile = tl.sum(tl.where(each < expert, tiles_of, 0))
        own_tiles = (own + ROWS - 1) // ROWS
        tl.store(starts + expert, first)
        if expert == X - 1:
            tl.store(starts + X, first + own)
            for start in range(first_tile + own_tiles, TILES, BLOCK):
                surplus = start + tl.arange(0, BLOCK)
                tl.store(tiles + surplus, -1, mask=surplus < TILES)
        for tile in range(own_tiles):
            at = tiles + first_tile + tile
            tl.store(at, expert)
            tl.store(at + TILES, first + tile * ROWS)
            tl.store(at + 2 * TILES, tl.minimum(own - tile * ROWS, ROWS))
    done, begin = first + before, part * chunk
    for start in range(begin, tl.minimum(begin + chunk, N), BLOCK):
        pair = start + tl.arange(0, BLOCK)
        mine = (tl.load(chosen + pair, mask=pair < N, other=-1) == expert).to(tl.int32)
        tl.store(order + done + tl.cumsum(mine) - 1, pair, mask=mine != 0)
        done += tl.sum(mine)


def schedule(chosen: Tensor, experts: int, rows: int) -> Schedule:
    """chosen [T, A] (int32 or int64, negative: none) of `experts` experts -> the schedule in tiles of `rows` pairs."""
    N, device = chosen.numel(), chosen.device
    most = N // rows + min(N, experts)
    block = min(_BLOCK, max(16, triton.next_power_of_2(N)))
    chunk = triton.cdiv(triton.cdiv(N, _CHUNKS), block) * block
    chunks = max(1, triton.cdiv(N, max(chunk, 1)))
    counts = torch.empty(experts * chunks, dtype=torch.int32, device=device)
    starts = torch.empty(experts + 1, dtype=torch.int32, device=device)
    order, tiles = (torch.empty(shape, dtype=torch.int32, device=device) for shape in ((N,), (3, most)))
    warps = 4 if block <= 1024 else 8
    _count[(experts, chunks)](chosen, counts, N, chunk, block, num_warps=warps)
    _place[(experts, chunks)](
        chosen, counts, order, starts, tiles, N, experts, most, chunk, rows, triton.next_power_of_2(experts),
        triton.next_power_of_2(chunks), block, num_warps=warps,
    )  # fmt: skip
    return Schedule(order, starts, tiles, rows)
