"""Keys in fewer bits beside their FP32 values, for scans.

Covers: `ByteKeys`, by which the exact scan rules keys out, `PackedKeys` of four bits, by which the first of two levels
chooses and which a cache keeps, and `PartRows`, rows that lie in several places or are made when they are read.
Does not cover: packing, scanning.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.memory import will_be_large
from octavo.kernels.rows import DenseRows, Stretches

LANES = 16  # keys that share a group
_LINE = 64  # bytes of a line of the cache: loads that meet two of them take twice the time


class ByteKeys:
    """Bytes [count up to a multiple of 16, J] and, of each key, its scale, its length and the bytes' error, FP32."""

    BITS: ClassVar = 8
    NUMBERS: ClassVar = 3

    def __init__(self, count: int, width: int) -> None:
        room, self._width = -(-count // LANES) * LANES, width * self.BITS // 8
        whole = np.zeros(room * self._width + _LINE, dtype=np.uint8)  # not written before it is used
        will_be_large([torch.from_numpy(whole)])
        first = -whole.ctypes.data % _LINE
        self.bytes = whole[first : first + room * self._width].reshape(room, self._width)
        self.numbers = np.zeros((self.NUMBERS, room), dtype=np.float32)
        self._at = (self.bytes.ctypes.data, *[row.ctypes.data for row in self.numbers])

    def addresses(self, first: int) -> tuple[int, ...]:
        """Where bytes, and scales, lengths and errors, 0 where there are none, of the keys from `first` on lie."""
        at, *others = self._at
        return at + first * self._width, *[other + 4 * first for other in others], *[0] * (3 - self.NUMBERS)


class PackedKeys(ByteKeys):
    """Four bits a number, [count up to a multiple of 16, J / 2] bytes, and the scale of each key."""

    BITS: ClassVar = 4
    NUMBERS: ClassVar = 1


@dataclass(frozen=True)
class Made:
    """`count` keys that lie nowhere: `rows(a, b)` makes the keys a .. b - 1, [b - a, J]."""

    count: int
    rows: Callable[[int, int], Tensor]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, some: slice) -> Tensor:
        start, stop, _ = some.indices(self.count)
        return self.rows(start, stop)


@dataclass(frozen=True)
class Part:
    """Keys that lie together: `values` [n, J] are the keys `first` .. of what `packed` follows, None where it is not
    kept."""

    values: Tensor | Made
    packed: PackedKeys | None
    first: int


class PartRows:
    """Keys of one sequence in parts that follow each other; the protocol of `octavo.kernels.rows.Rows`."""

    def __init__(self, parts: Sequence[Part], width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.parts, self._width, self._none = parts, width, torch.empty(0, width, dtype=dtype, device=device)
        self.starts = [0]
        for part in parts:
            self.starts.append(self.starts[-1] + len(part.values))

    @property
    def length(self) -> int:
        return self.starts[-1]

    @property
    def width(self) -> int:
        return self._width

    @property
    def together(self) -> bool:
        return len(self.parts) == 1 and isinstance(self.parts[0].values, Tensor) and self._none.dtype == torch.float32

    def where(self) -> Stretches | None:
        if self._none.device.type != "cpu":
            return None
        at = []
        for part in self.parts:
            values = part.values
            if isinstance(values, Made) or values.dtype != torch.float32 or not values.is_contiguous():
                return None
            at.append(values.data_ptr())
        return Stretches(self.starts[:-1], at)

    def tile(self, start: int, stop: int) -> Tensor:
        rows = [part.values[a:b] for part, a, b, _ in self.within(start, stop)]
        return (rows[0] if len(rows) == 1 else torch.cat([self._none, *rows])).unsqueeze(0)

    def within(self, start: int, stop: int) -> list[tuple[Part, int, int, int]]:
        """Of every part that has keys among start .. stop - 1: part, the range inside it, the part's own start."""
        found, at = [], bisect.bisect_right(self.starts, start) - 1
        for part, base in zip(self.parts[at:], self.starts[at:], strict=False):
            if base >= stop:
                break
            found.append((part, max(start - base, 0), min(stop - base, len(part.values)), base))
        return found

    def gather(self, index_BSk: Tensor) -> Tensor:
        return DenseRows(self.tile(0, self.length)).gather(index_BSk)

    def means(self, size: int) -> Tensor:
        return DenseRows(self.tile(0, self.length)).means(size)

    def coarse(self, size: int) -> DenseRows:
        return DenseRows(self.means(size))
