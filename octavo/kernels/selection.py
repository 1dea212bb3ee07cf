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


@dataclass(frozen=True)
class Masked:
    """Entries marked per query, [B, S, C] bool: what `Picked` says, for devices that mask faster than they gather."""

    seen: Tensor


Selection = Causal | Picked | Masked
