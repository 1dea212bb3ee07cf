"""Which compressed entries a query attends to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable


@dataclass(frozen=True)
class Bounds:
    """Entries of each query's own document among those of its row: first <= w < stop, int32 [B, S] each. stop is never
    above (t + 1) // ratio."""

    first: Tensor
    stop: Tensor

    def of(self, some: slice) -> Bounds:
        """Those of some queries."""
        return Bounds(self.first[:, some], self.stop[:, some])

    def marks(self, count: int) -> Tensor:
        """Which of `count` entries each query sees, [B, S, count] bool."""
        entry = torch.arange(count, device=self.first.device)
        return (entry >= self.first.unsqueeze(-1)) & (entry < self.stop.unsqueeze(-1))


@dataclass(frozen=True)
class Causal:
    """Every complete entry: w < (t + 1) // ratio, or those within `bounds`. offset: FP32 [B] or [1], added to the
    logits of all entries of a sequence (log n: each weighs as n of its like would); None: nothing."""

    ratio: int
    offset: Tensor | None = None
    bounds: Bounds | None = None

    def shifted(self, logits: Tensor) -> Tensor:
        """Logits of entries, [B, ...], with the offset."""
        if self.offset is None:
            return logits
        return logits + self.offset.to(logits.dtype).view(-1, *[1] * (logits.dim() - 1))


@dataclass(frozen=True)
class Picked:
    """Entries listed per query, [B, S, k]; -1 marks an unused place."""

    index: Tensor


@dataclass(frozen=True)
class Masked:
    """Entries marked per query, [B, S, C] bool: what `Picked` says, for devices that mask faster than they gather."""

    seen: Tensor

    def of(self, some: slice) -> Tensor:
        """The marks of some queries, [B, n, C] bool."""
        return self.seen[:, some]


WORD = 64  # entries that a word of `Marked` holds


@dataclass(frozen=True)
class Marked:
    """As `Masked`, a bit an entry: `words` int64 [B, S, ceil(count / 64)], entry e in bit e % 64 of word e // 64. No
    query marks an entry that is not complete, w >= (t + 1) // ratio."""

    words: Tensor
    count: int
    ratio: int

    def of(self, some: slice) -> Tensor:
        """The marks of some queries, [B, n, count] bool."""
        return _unpacked(self.words[:, some], self.count)


@fusable
def _unpacked(words: Tensor, count: int) -> Tensor:
    bits = (words.unsqueeze(-1) >> torch.arange(WORD, device=words.device)) & 1
    return bits.flatten(2)[..., :count] != 0


Selection = Causal | Picked | Masked | Marked
