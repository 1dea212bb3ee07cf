"""Work on whole matrices whose rows lie on several ranks: each matrix is worked on by one of them.

Covers: bringing the rows of each matrix to its owner and the result's rows back, in one exchange each way. Does not
cover: which matrices, what is done with them.

Owners take turns, so that each has its share of the work; per step a rank sends and receives about twice the bytes of
the rows that it holds, whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Owners:
    """The ranks of a group; rows of a matrix lie on them as `torch.chunk` cuts them."""

    group: dist.ProcessGroup

    def apply(
        self, shards: Sequence[Tensor], heights: Sequence[int], work: Callable[[list[Tensor]], list[Tensor]], first: int
    ) -> list[Tensor]:
        """`shards[i]` [rows, c_i] are this rank's rows of matrix i, which has `heights[i]`; `work` turns whole matrices
        into matrices of the same shapes. Returns this rank's rows of its results.

        Matrix i is worked on by rank (first + i) % n. Every rank calls it with as many matrices of one dtype.
        """
        n, me = self.group.size(), self.group.rank()
        turns = [[i for i in range(len(shards)) if (first + i) % n == rank] for rank in range(n)]
        widths = [shard.shape[1] for shard in shards]
        sent = [sum(shards[i].numel() for i in own) for own in turns]
        held = [[_rows(heights[i], n, rank) for i in turns[me]] for rank in range(n)]
        taken = [sum(rows * widths[i] for rows, i in zip(rank, turns[me], strict=True)) for rank in held]
        flat = torch.cat([shards[i].reshape(-1) for own in turns for i in own])
        got = flat.new_empty(sum(taken))
        dist.all_to_all_single(got, flat, taken, sent, group=self.group)
        parts = [part.split([r * widths[i] for r, i in zip(rows, turns[me], strict=True)])
                 for part, rows in zip(got.split(taken), held, strict=True)]  # fmt: skip
        whole = [torch.cat([part[k] for part in parts]).view(-1, widths[i]) for k, i in enumerate(turns[me])]
        made = work(whole) if whole else []
        cut = [one.split([rows[k] for rows in held]) for k, one in enumerate(made)]
        back = [cut[k][rank].reshape(-1) for rank in range(n) for k in range(len(made))]
        returned = torch.empty_like(flat)
        dist.all_to_all_single(returned, torch.cat(back) if back else got, sent, taken, group=self.group)
        order = [i for own in turns for i in own]
        pieces = dict(zip(order, returned.split([shards[i].numel() for i in order]), strict=True))
        return [pieces[i].view_as(shards[i]) for i in range(len(shards))]


def _rows(height: int, ranks: int, rank: int) -> int:
    """Rows of a matrix that `rank` holds."""
    chunk = -(-height // ranks)
    return max(0, min(height, (rank + 1) * chunk) - rank * chunk)
