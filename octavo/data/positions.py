"""What lets short rows teach long contexts: rotary positions with jumps, and the weight of dense compressed entries.

Covers: the draws. Does not cover: what a jump means for windows and blocks (the view knows: a jump is a
multiple of 128, at a multiple of 128, so blocks stay whole).
"""

from __future__ import annotations

import math

import numpy as np

GRAIN = 128
LIMIT = 1 << 20
FAR = 1 << 18


def row_positions(rng: np.random.Generator, length: int, *, skips: float) -> np.ndarray:
    """int32 [S]: positions of a row, with probability `skips` cut at 1 to 3 multiples of 128.

    Each cut adds a multiple of 128 drawn log-uniformly; in half of the cut rows the sum is drawn log-uniformly instead,
    so that the last position lies between 2^18 and 2^20. No position reaches 2^20.
    """
    positions = np.arange(length, dtype=np.int32)
    if length <= GRAIN or rng.random() >= skips:
        return positions
    inner = (length - 1) // GRAIN
    cuts = np.sort(rng.choice(np.arange(1, inner + 1), size=min(inner, int(rng.integers(1, 4))), replace=False)) * GRAIN
    room = (LIMIT - length) // GRAIN
    if room < 1:
        return positions
    jumps = np.exp(rng.uniform(0.0, math.log(room + 1), size=len(cuts))).astype(np.int64)
    low = max(1, -(-(FAR - length) // GRAIN) + 1)
    if rng.random() < 0.5 and low < room:
        total = int(math.exp(rng.uniform(math.log(low), math.log(room))))
        shares = np.maximum(1, (jumps / jumps.sum() * (total - len(cuts))).astype(np.int64))
        shares[int(rng.integers(len(cuts)))] += total - int(shares.sum())
        jumps = shares if int(shares.min()) > 0 else np.array([total] + [0] * (len(cuts) - 1))
    elif int(jumps.sum()) > room:
        jumps = np.maximum(1, jumps * (room - len(cuts)) // int(jumps.sum()))
    for cut, jump in zip(cuts.tolist(), jumps.tolist(), strict=True):
        positions[cut:] += np.int32(jump * GRAIN)
    return positions


def row_dilution(rng: np.random.Generator, length: int, *, share: float) -> float:
    """0, or for `share` of the rows log(L / length) with a context of L tokens drawn log-uniformly up to 2^20.

    Added to the logits of entries that every query sees (HCA), it makes them weigh as the L / 128 entries of such a
    context would: what is not looked for must stay small against a thousand of its kind.
    """
    if rng.random() >= share:
        return 0.0
    return float(rng.uniform(0.0, math.log(max(1.0, LIMIT / length))))
