"""Keys as bytes beside their FP32 values, for scans.

Covers: `PackedKeys`, which `scan.pack` fills, and `PartRows`, rows that lie in
several places. A decoding step reads every coarse key; bytes are a quarter of what it would read. They only rule keys
out: what remains is scored in FP32, so that picks are those of the FP32 keys. Does not cover: packing, scanning.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.memory import will_be_large
from octavo.kernels.rows import DenseRows, Stretches

LANES = 16  # keys that share a group
_LINE = 64  # bytes of a line of the cache: loads that meet two of them take twice the time


class PackedKeys:
    """Bytes [count up to a multiple of 16, J] and, of each key, its scale, its length and the bytes' error, FP32."""

    def __init__(self, count: int, width: int) -> None:
        room = -(-count // LANES) * LANES
        whole = np.zeros(room * width + _LINE, dtype=np.uint8)  # not written before it is used
        will_be_large([torch.from_numpy(whole)])
        first = -whole.ctypes.data % _LINE
        self.bytes = whole[first : first + room * width].reshape(room, width)
        self.numbers = np.zeros((3, room), dtype=np.float32)
        self._at = (self.bytes.ctypes.data, *[row.ctypes.data for row in self.numbers])
        self._width = width

    def addresses(self, first: int) -> tuple[int, ...]:
        """Where bytes, scales, lengths and errors of the keys from number `first` on lie."""
        at, *others = self._at
        return at + first * self._width, *[other + 4 * first for other in others]


@dataclass(frozen=True)
class Part:
    """Keys that lie together: `values` [n, J] are the keys `first` .. of what `packed` follows, None where it is not
    kept."""

    values: Tensor
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
        return len(self.parts) == 1 and self._none.dtype == torch.float32

    def where(self) -> Stretches | None:
        plain = all(part.values.dtype == torch.float32 and part.values.is_contiguous() for part in self.parts)
        if not plain or self._none.device.type != "cpu":
            return None
        return Stretches(self.starts[:-1], [part.values.data_ptr() for part in self.parts])

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
