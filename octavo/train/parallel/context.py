"""Rows of a step cut into chunks that lie on several ranks.

Covers: which part of a row a rank computes (`Context`), and where its chunk's earlier rows come from (`ChunkRows`): the
window's and an overlapping entry's from the rank before, compressed entries and index keys from all ranks, the ids
before the chunk from the row, which every rank has whole. Does not cover: whose rows they are (`mesh`).

Chunks are contiguous, equal and multiples of 128 tokens, so that no entry spans two of them but by its overlap, and at
least as long as the window. Positions and the numbers of entries are those of the whole row, so that the model's
arithmetic is that of one process. The index loss takes every n-th query of each chunk, not of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from octavo.cache.view import Controls, Group, View
from octavo.config.model import CSA_RATIO, ModelConfig
from octavo.kernels.rows import DenseRows, Rows
from octavo.train.parallel.collectives import gather, swap

if TYPE_CHECKING:
    from octavo.train.parallel.ranks import Ranks


@dataclass(frozen=True)
class Context:
    """This rank's place among those that share its rows, for a model of `config`."""

    group: dist.ProcessGroup
    config: ModelConfig

    @classmethod
    def of(cls, ranks: Ranks, config: ModelConfig) -> Context | None:
        """None where every rank computes whole rows."""
        mesh = ranks.mesh
        return None if mesh is None or mesh.layout.cp == 1 else cls(mesh.chunk_group, config)

    @property
    def count(self) -> int:
        """Chunks of a row."""
        return self.group.size()

    def part(self, rows: Tensor) -> Tensor:
        """This rank's chunk of whole rows, [B, S] -> [B, S / count]."""
        return rows.chunk(self.count, dim=1)[self.group.rank()]

    def add(self, tensors: list[Tensor]) -> list[Tensor]:
        """Sums over the chunks, in FP32, without a gradient."""
        flat = torch.cat([t.detach().reshape(-1).float() for t in tensors])
        dist.all_reduce(flat, group=self.group)
        parts = flat.split([t.numel() for t in tensors])
        return [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]

    def view(self, tokens: Tensor, positions: Tensor, controls: Controls) -> View:
        """The view of this rank's chunk of whole rows: tokens and positions [B, S]."""
        here = self.part(positions)
        B, S = here.shape
        past = ChunkRows(self, tokens, here)
        group = Group(start=0, rows=B, length=S, first=past.first, past=past)
        return View(positions=here.flatten(), groups=(group,), controls=controls)


class ChunkRows:
    """A chunk's past, as `octavo.cache.view.PastRows`; everything stays in the autograd graph, across ranks too."""

    def __init__(self, context: Context, tokens_BS: Tensor, positions_BS: Tensor) -> None:
        """`tokens_BS` are whole rows, `positions_BS` those of the chunk."""
        self._context, self._tokens, self._positions = context, tokens_BS, positions_BS
        self.first = context.group.rank() * positions_BS.shape[1]

    def window(self, layer: int, rows: Tensor) -> Tensor:
        return self._after(rows, self._context.config.sliding_window - 1)

    def raw(self, layer: int, kind: str, rows: Tensor, *, since: int | None) -> Tensor | None:
        overlap = self._context.config.layer_ratios[layer] == CSA_RATIO
        return self._after(rows, CSA_RATIO) if overlap else rows

    def entries(self, layer: int, kind: str, first: int, values: Tensor) -> Rows:
        return DenseRows(gather(values, self._context.group)[:, : first + values.shape[1]])

    def entry_positions(self, first: int, stop: int, ratio: int) -> Tensor:
        return self._positions[:, first * ratio - self.first : stop * ratio - self.first : ratio]

    def conv(self, layer: int, rows: Tensor) -> Tensor:
        engram = self._context.config.engram
        assert engram is not None
        return self._after(rows, (engram.conv_kernel - 1) * engram.max_ngram_size)

    def ids_before(self, count: int) -> Tensor:
        return self._tokens[:, max(0, self.first - count) : self.first]

    def _after(self, rows: Tensor, count: int) -> Tensor:
        """The last `count` rows of the chunk before, then these: [B, S, ...] -> [B, count + S, ...]; for the first
        chunk these alone."""
        context, B = self._context, rows.shape[0]
        me, n = context.group.rank(), context.count
        sent, taken = [0] * n, [0] * n
        if me + 1 < n:
            sent[me + 1] = B * count
        if me > 0:
            taken[me - 1] = B * count
        tail = rows[:, rows.shape[1] - (count if me + 1 < n else 0) :]
        (before,) = swap((tail.flatten(0, 1),), sent, taken, context.group)
        return torch.cat((before.unflatten(0, (B, -1)) if me > 0 else before.view(B, 0, *rows.shape[2:]), rows), dim=1)
