"""Means of runs of entries, computed when they are first asked for and kept beside the pages.

Covers: `PageMeans`, of one store of one slab; what is written anew is forgotten. Where a compiled scan can read them in
four bits, they are kept so too, and of runs of one entry nothing but that is. Means are derived from the entries, so
neither snapshots nor documents hold them. Does not cover: what they are for (`octavo.kernels.index_topk.levels`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.index_topk import scan
from octavo.kernels.index_topk.packed import LANES, PackedKeys
from octavo.kernels.memory import will_be_large

_PIECE = 512 * LANES  # entries that are decoded at a time to be packed

Entries = Callable[[int, int], Tensor]
"""Gives the entries a .. b - 1 of a slab's store, [b - a, width]."""


class PageMeans:
    """`values` [entries // size, width] of `dtype`, `packed` the same in four bits, None where no scan reads these; run
    i is valid where `_known[i]`. The means of runs of one are the entries themselves: `values` are `single`, which is
    None where entries are not stored in `dtype`."""

    def __init__(
        self, entries: int, size: int, width: int, device: torch.device, dtype: torch.dtype,
        single: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.size, self.values = size, single
        if size > 1:
            with torch.inference_mode(False):  # made in inference mode they could be written nowhere else
                self.values = torch.empty(entries // size, width, device=device, dtype=dtype)
            will_be_large([self.values])
        self.packed = PackedKeys(entries // size, width) if scan.packs(width, dtype, device) else None
        self._known = np.zeros(entries // size, dtype=bool)
        self.changes = 0  # goes up when a mean is no longer valid
        self._whole = (0, 0)  # a stretch of valid runs, so that the next step need not look at each of them

    def fill(self, start: int, stop: int, rows: Entries) -> None:
        """Make the means of the entries start .. stop - 1, whole runs, valid."""
        lo, hi = start // self.size, stop // self.size
        begin, end = self._whole
        if not begin <= lo <= end:
            begin = end = lo
        self._fill(min(end, hi), hi, rows)
        self._whole = begin, max(end, hi)

    def _fill(self, lo: int, hi: int, rows: Entries) -> None:
        missing = np.flatnonzero(~self._known[lo:hi])
        if len(missing) == 0:
            return
        a, b = lo + int(missing[0]), lo + int(missing[-1]) + 1
        if self.values is not None and self.size > 1:
            some = rows(a * self.size, b * self.size).to(self.values.dtype)
            self.values[a:b] = some.unflatten(0, (-1, self.size)).mean(1)
        if self.packed is not None:
            self._pack(a, b, rows, self.packed)
        self._known[a:b] = True

    def _pack(self, lo: int, hi: int, rows: Entries, into: PackedKeys) -> None:
        if self.values is not None:
            scan.pack(self.values, lo, hi, into)
            return
        for at in range(lo // LANES * LANES, hi, _PIECE):
            end = min(at + _PIECE, hi)
            scan.pack(rows(at, end).float().contiguous(), max(at, lo), end, into, at)

    def forget(self, start: int, stop: int) -> None:
        """The entries start .. stop - 1 were written."""
        lo, hi = start // self.size, -(-stop // self.size)
        self._known[lo:hi] = False
        self.changes += 1
        begin, end = self._whole
        if lo < end and hi > begin:
            self._whole = (begin, lo) if lo > begin else (0, 0)
