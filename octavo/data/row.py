"""One training row: tokens, what weighs, which spans answer what, where documents begin.

Covers: the value. Does not cover: what is in a row (octavo.data.rows), several documents in one (octavo.data.bundle).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def _one() -> np.ndarray:
    return np.zeros(1, dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class Row:
    """tokens: uint16 [T]. weight: float32 [T], loss weight of predicting each token from those before it.

    span: int32 [n, 4], for each question the indices of its first token, of its answer's first token, and begin and
    end of the text that holds the answer's source. kinds: the kind of each question. starts: int32 [d], ascending from
    0, the first token of each document; none sees another, so the weight of a first token counts for nothing.
    """

    tokens: np.ndarray
    weight: np.ndarray
    span: np.ndarray
    kinds: tuple[str, ...]
    starts: np.ndarray = field(default_factory=_one)

    @property
    def document(self) -> np.ndarray:
        """int32 [T]: the number of each token's document, from 0 on."""
        sizes = np.diff(np.append(self.starts, len(self.tokens)))
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
