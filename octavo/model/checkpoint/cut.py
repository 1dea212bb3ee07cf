"""A part of a tensor: some of its rows, some of its columns.

Covers: `Cut`, its shape, and where single values of the whole tensor lie in it. Does not cover: who holds which part
(`octavo.engine.spread.shares`), reading one (`reader`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Rows `rows` (of the first dimension) and columns `columns` (of the last) of a tensor of `shape`; None: all.

    A tensor of one dimension has rows alone. Both are ranges of step 1 within the shape.
    """

    shape: tuple[int, ...]
    rows: range | None = None
    columns: range | None = None

    def __post_init__(self) -> None:
        for which, size in ((self.rows, self.shape[0]), (self.columns, self.shape[-1])):
            assert which is None or (which.step == 1 and 0 <= which.start < which.stop <= size), self
        assert self.columns is None or len(self.shape) > 1, self

    @property
    def kept(self) -> tuple[int, ...]:
        """The shape of the part."""
        shape = list(self.shape)
        if self.rows is not None:
            shape[0] = len(self.rows)
        if self.columns is not None:
            shape[-1] = len(self.columns)
        return tuple(shape)

    @property
    def first_row(self) -> int:
        """The row of the whole tensor that the part begins with."""
        return 0 if self.rows is None else self.rows.start

    def has_row(self, row: int) -> bool:
        """Whether the part has this row of the whole tensor."""
        return self.rows is None or row in self.rows

    def find(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Of values of the flattened whole tensor at `places` [n] int64: whether the part has them, and where in the
        flattened part (0 for those that it has not)."""
        kept = self.kept
        across, inner = prod(self.shape[1:]), prod(kept[1:])
        row, rest = places // across - self.first_row, places % across
        here = (row >= 0) & (row < kept[0])
        if len(kept) > 1:
            column = rest % self.shape[-1] - (0 if self.columns is None else self.columns.start)
            here &= (column >= 0) & (column < kept[-1])
            rest = rest // self.shape[-1] * kept[-1] + column
        return here, torch.where(here, row * inner + rest, 0)
