"""Which compressed entries a query attends to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Causal:
    """Every complete entry: w < (t + 1) // ratio. offset: FP32 [B] or [1], added to the logits of all entries of a
    sequence (log n: each weighs as n of its like would); None: nothing."""

    ratio: int
    offset: Tensor | None = None

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


Selection = Causal | Picked | Masked
