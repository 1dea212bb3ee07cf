"""Addresses of a sequence's stored rows, kept from step to step.

Covers: `Places`, where the entries and coarse keys of one sequence lie, as compiled code reads them. Part of a step
takes microseconds, and pages change every 256 tokens. Does not cover: rows that must be converted (`pool`).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from octavo.cache.layout import RowFormat
from octavo.cache.pool import PagedRows, Run, StoreKey
from octavo.kernels.index_topk import scan

if TYPE_CHECKING:
    from octavo.cache.state import SequenceState

_NO_END = 1 << 40


class StoreAt(NamedTuple):
    """`count` stretches: addresses of their first entries (int64), of their rows' addresses, and of the rows of the
    structure `Place` of the index scan; `held` keeps all of them in memory."""

    count: int
    starts: int
    rows: int
    places: int
    held: tuple[np.ndarray, ...]


class Places:
    """Where the rows of `state` lie; found anew when its pages change."""

    def __init__(self, state: SequenceState) -> None:
        self._state = weakref.ref(state)
        self._runs: list[Run] | None = None
        self._stores: dict[StoreKey, StoreAt | None] = {}
        self._coarse: dict[StoreKey, tuple[StoreAt, list[int]]] = {}
        self._changes = 0
        layout = state.layout
        formats = {layout.main, layout.index, layout.window}
        self.plain = formats == {RowFormat.FP32} and state.pool.device.type == "cpu"

    @property
    def changes(self) -> int:
        """Goes up when pages are others: addresses that were found before hold no longer then."""
        self._look()
        return self._changes

    def store(self, key: StoreKey) -> StoreAt | None:
        """The entries of one store; None where they do not lie in memory as they are."""
        state = self._look()
        if key not in self._stores:
            found = scan.addresses(PagedRows(state.pool, state.runs, key, _NO_END)) if self.plain else None
            self._stores[key] = None if found is None else _at(found)
        return self._stores[key]

    def coarse(self, key: StoreKey, size: int, entries: int) -> StoreAt | None:
        """The coarse keys of all complete runs of `size` entries, of which there are `entries`, up to date."""
        state = self._look()
        means = [run.slab.means.get(key) for run in state.runs]
        changes = [-1 if each is None else each.changes for each in means]
        held = self._coarse.get(key)
        if held is not None and held[1] == changes:
            return held[0]
        rows = PagedRows(state.pool, state.runs, key, entries).coarse(size)  # computes what is missing
        found = scan.addresses(rows)
        if found is None:
            return None
        if len(found):
            found[-1, 1] = _NO_END
        made = _at(found)
        if len(found) == len(means):  # else pages have no complete run yet
            self._coarse[key] = made, [run.slab.means[key].changes for run in state.runs]
        return made

    def _look(self) -> SequenceState:
        state = self._state()
        assert state is not None, "the sequence is gone"
        if self._runs is not state.runs:
            self._runs = state.runs
            self._stores.clear()
            self._coarse.clear()
            self._changes += 1
        return state


def _at(found: np.ndarray) -> StoreAt:
    starts, rows = found[:, 0].copy(), found[:, 2].copy()
    return StoreAt(len(found), starts.ctypes.data, rows.ctypes.data, found.ctypes.data, (starts, rows, found))
