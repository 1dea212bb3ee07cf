"""Which compressed entries a query attends to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Causal:
    """Every complete entry: w < (t + 1) // ratio."""

    ratio: int


@dataclass(frozen=True)
class Picked:
    """Entries listed per query, [B, S, k]; -1 marks an unused place."""

    index: Tensor


Selection = Causal | Picked
