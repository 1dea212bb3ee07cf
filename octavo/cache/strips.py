"""Room for tails to grow in place.

Covers: `Strips`, which appends a few new rows behind the rows of a tail without moving those. A row that was handed out
is never written again, so tails stay immutable values that forks share and rollbacks cut. Does not cover: which rows a
tail keeps (`octavo.cache.tails`).

Decoding adds one row to each tail and step. Joining tensors would copy every tail at every step, and torch shares
copies of that size out among its threads, which waits for the slowest of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_LEAST_ROWS = 16
_copy = ctypes.PyDLL(None).memmove  # `ctypes.memmove` lets another thread's Python run, as copies of torch and numpy do
_copy.argtypes, _copy.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p


@dataclass
class _Strip:
    """`rows[:end]` are in use; the tail that was handed out last ends there. `cells` are the same memory in numpy."""

    rows: Tensor
    cells: np.ndarray
    end: int
    newest: Tensor | None


class Strips:
    """The strips of one sequence, by name."""

    def __init__(self) -> None:
        self._strips: dict[Hashable, _Strip] = {}

    def extend(
        self, key: Hashable, old: Tensor, new: Tensor, *, drop: int, used: int
    ) -> tuple[Tensor | None, Tensor]:
        """`new` rows [n, width] behind `old`: the last `used` of all rows (None for none), and all rows but the first
        `drop`, which are the next `old`.

        In place where `old` is what this call gave last; otherwise (a fork, a rollback, a step that was not committed)
        the rows move to a strip of their own. Many new rows, another device or gradients: joined as usual.
        """
        count, past = new.shape[0], old.shape[0]
        if not self._grows(old, count) or not new.is_cpu:
            self._strips.pop(key, None)
            both = torch.cat((old, new))
            kept = both[drop:]
            last = both[count + past - used :] if used else None
            return last, kept.clone() if count + past > 2 * (count + past - drop) else kept
        strip = self._strip(key, old, count)
        end = strip.end + count
        strip.cells[strip.end : end] = _cells(new)
        strip.newest, strip.end = strip.rows[end - count - past + drop : end], end
        return strip.rows[end - used : end] if used else None, strip.newest

    def grow(self, key: Hashable, old: Tensor, count: int, *, drop: int) -> tuple[int, Tensor] | None:
        """As `extend` in place, for `count` new rows that the caller writes before anyone reads them: their address,
        straight behind the rows of `old`, and the next `old`. None where rows would have to be joined."""
        past = old.shape[0]
        if not self._grows(old, count) or not old.is_cpu:
            return None
        strip = self._strip(key, old, count)
        end = strip.end + count
        address = strip.rows.data_ptr() + strip.end * strip.cells.strides[0]
        strip.newest, strip.end = strip.rows[end - count - past + drop : end], end
        return address, strip.newest

    def give_back(self, key: Hashable, old: Tensor, count: int) -> None:
        """Undo the last `grow` of this name, which was of `count` rows behind `old`."""
        strip = self._strips[key]
        strip.newest, strip.end = old, strip.end - count

    def room(self, key: Hashable, old: Tensor, count: int) -> int:
        """The address behind `old`, with room for `count` rows that the caller writes and then `take`s."""
        strip = self._strip(key, old, count)
        return strip.rows.data_ptr() + strip.end * strip.cells.strides[0]

    def take(self, key: Hashable, count: int, *, kept: int) -> Tensor:
        """`count` rows of the `room` were written: the next `old`, which is the newest `kept` of all rows."""
        strip = self._strips[key]
        strip.end += count
        strip.newest = strip.rows[strip.end - kept : strip.end]
        return strip.newest

    @staticmethod
    def _grows(old: Tensor, count: int) -> bool:
        return count <= old.shape[0] and not torch.is_grad_enabled()

    def _strip(self, key: Hashable, old: Tensor, count: int) -> _Strip:
        """The strip that ends with `old` and has room for `count` rows more."""
        strip = self._strips.get(key)
        if strip is None or strip.newest is not old or strip.end + count > len(strip.cells):
            strip = self._strips[key] = _moved(old, count)
        return strip


def _moved(old: Tensor, count: int) -> _Strip:
    """A strip that begins with `old` and has room for about as many rows more, at least `count`.

    The copy keeps Python to this thread: one that let another's run would wait until that lets go, for a copy of 10 us,
    many times in one step of an answer."""
    given = _cells(old)
    cells = np.empty((max(2 * len(old) + count, _LEAST_ROWS), *given.shape[1:]), dtype=given.dtype)
    with torch.inference_mode(False):  # rows made in inference mode could be written nowhere else
        rows = torch.from_numpy(cells)
        rows = rows if rows.dtype == old.dtype else rows.view(old.dtype)
    assert given.flags.c_contiguous
    _copy(cells.ctypes.data, given.ctypes.data, given.nbytes)
    return _Strip(rows, cells, len(old), None)


def _cells(rows: Tensor) -> np.ndarray:
    """Rows as an array of the same memory: numpy copies them without torch's threads; it knows BF16 as bytes only."""
    rows = rows.detach() if rows.requires_grad else rows  # where it need not, it would let another thread's Python run
    return (rows.contiguous().view(torch.uint8) if rows.dtype == torch.bfloat16 else rows).numpy()
