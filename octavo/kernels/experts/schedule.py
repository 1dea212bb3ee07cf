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


@triton.jit
def _count(chosen, counts, N, BLOCK: tl.constexpr):
    expert = tl.program_id(0)
    found = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, N, BLOCK):
        pair = start + tl.arange(0, BLOCK)
        found += (tl.load(chosen + pair, mask=pair < N, other=-1) == expert).to(tl.int32)
    tl.store(counts + expert, tl.sum(found))


@triton.jit
def _place(chosen, counts, order, starts, tiles, N, X, TILES, ROWS: tl.constexpr, BLOCK_X: tl.constexpr,
           BLOCK: tl.constexpr):  # fmt: skip
    expert = tl.program_id(0)
    each = tl.arange(0, BLOCK_X)
    count = tl.load(counts + each, mask=each < X, other=0)
    tiles_of = (count + ROWS - 1) // ROWS
    first = tl.sum(tl.where(each < expert, count, 0))
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
    done = first
    for start in range(0, N, BLOCK):
        pair = start + tl.arange(0, BLOCK)
        mine = (tl.load(chosen + pair, mask=pair < N, other=-1) == expert).to(tl.int32)
        tl.store(order + done + tl.cumsum(mine) - 1, pair, mask=mine != 0)
        done += tl.sum(mine)


def schedule(chosen: Tensor, experts: int, rows: int) -> Schedule:
    """chosen [T, A] (int32 or int64, negative: none) of `experts` experts -> the schedule in tiles of `rows` pairs."""
    N, device = chosen.numel(), chosen.device
    most = N // rows + min(N, experts)
    counts, starts = (torch.empty(experts + more, dtype=torch.int32, device=device) for more in (0, 1))
    order, tiles = (torch.empty(shape, dtype=torch.int32, device=device) for shape in ((N,), (3, most)))
    block = min(_BLOCK, max(16, triton.next_power_of_2(N)))
    warps = 4 if block <= 1024 else 8
    _count[(experts,)](chosen, counts, N, block, num_warps=warps)
    _place[(experts,)](
        chosen, counts, order, starts, tiles, N, experts, most, rows, triton.next_power_of_2(experts), block,
        num_warps=warps,
    )  # fmt: skip
    return Schedule(order, starts, tiles, rows)
