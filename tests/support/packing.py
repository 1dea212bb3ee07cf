"""Rows of several documents, and the same documents alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.cache.view import Controls, View

AWKWARD = (1, 2, 3, 4, 5, 7, 8, 12, 31, 33, 127, 128, 129, 132, 256, 257)
"""Lengths around blocks of 4 and 128, windows and n-grams."""


def packings(n: int, seed: int, *, most: int = 600) -> list[tuple[int, ...]]:
    """Lengths of 2 to 5 documents each, `most` tokens at most in all."""
    draw, found = random.Random(seed), []
    while len(found) < n:
        lengths = tuple(draw.choice(AWKWARD) for _ in range(draw.randint(2, 5)))
        if sum(lengths) <= most:
            found.append(lengths)
    return found


def numbers(lengths: Sequence[int]) -> Tensor:
    """The document of each token, int32 [T]."""
    return torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32), torch.tensor(lengths))


def restarted(lengths: Sequence[int]) -> Tensor:
    """Positions from 0 in every document, [T]."""
    return torch.cat([torch.arange(n) for n in lengths])


def packed(
    rows: Sequence[Sequence[int]], *, controls: Controls | None = None, positions: Tensor | None = None,
    device: str = "cpu",
) -> View:  # fmt: skip
    """The view of rows of equal lengths in all, each of documents of these lengths."""
    size = sum(rows[0])
    return View.packed(
        range(0, (len(rows) + 1) * size, size),
        positions=(torch.cat([restarted(one) for one in rows]) if positions is None else positions).to(device),
        controls=controls,
        document=torch.cat([numbers(one) for one in rows]).to(device),
        device=device,
    )


def alone(rows: Sequence[Sequence[int]], *, controls: Controls | None = None, positions: Tensor | None = None) -> View:
    """The view of the same tokens in which every document is a sequence."""
    ends = np.cumsum([0, *(n for one in rows for n in one)]).tolist()
    return View.packed(ends, positions=positions, controls=controls)
