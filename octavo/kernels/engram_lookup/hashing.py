"""Addresses of Engram rows: multipliers, prime moduli, offsets, and the hash itself.

Covers: integers only. Does not cover: the tables, the tokenizer compression (`octavo.text.compress_map`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HashPlan:
    """Hash of one layer: `multipliers` [N] (odd), `moduli` and `offsets` [(N-1) * heads], `rows` in the flat table."""

    multipliers: tuple[int, ...]
    moduli: tuple[int, ...]
    offsets: tuple[int, ...]
    heads: int

    @property
    def rows(self) -> int:
        return sum(self.moduli)


def plan_hash(*, layer: int, moduli: Sequence[int], heads: int, max_ngram: int, vocabulary: int, seed: int) -> HashPlan:
    """Hash of one layer from its prime moduli (orders 2..max_ngram, `heads` each).

    Multipliers are odd and small enough that multiplier * (vocabulary - 1) < 2^63; they depend on seed and layer only.
    """
    assert len(moduli) == (max_ngram - 1) * heads, "one modulus for each order and head"
    limit = max(1, ((2**63 - 1) // vocabulary) // 2)
    draws = np.random.default_rng(seed + 10007 * layer).integers(0, limit, size=max_ngram, dtype=np.int64)
    return HashPlan(
        multipliers=tuple(int(2 * d + 1) for d in draws),
        moduli=tuple(moduli),
        offsets=tuple(accumulate(moduli[:-1], initial=0)),
        heads=heads,
    )


def row_ids(context: Tensor, plan: HashPlan) -> Tensor:
    """Flat table rows [T, (N-1) * heads] of every position; context [T, N] int64, newest token first."""
    columns = []
    mixed = context[:, 0] * plan.multipliers[0]
    for n in range(1, len(plan.multipliers)):
        mixed = torch.bitwise_xor(mixed, context[:, n] * plan.multipliers[n])
        for j in range((n - 1) * plan.heads, n * plan.heads):
            columns.append(mixed % plan.moduli[j] + plan.offsets[j])
    return torch.stack(columns, dim=1)
