"""A sequence whose newest rows live in a slot of the GPU's kernels.

Covers: `GpuState`, which fetches its tails from the slot when somebody asks for them (a fork, a file, a rollback beyond
the slot's rings), so that steps that follow each other move none. Does not cover: which slot it has (`binding`).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np

from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.pool import PagePool
from octavo.cache.state import Replay, SequenceState
from octavo.cache.tails import LayerTail

if TYPE_CHECKING:
    from octavo.engine.gpu.binding import Binding


class GpuState(SequenceState):
    """`SequenceState` whose tails are up to date in a slot (`slot`) or held as tensors, or both."""

    def __init__(
        self, pool: PagePool, tails: tuple[LayerTail, ...], *, binding: Binding, replay: Replay | None = None
    ) -> None:
        self._binding = binding
        self.slot: int | None = None
        self.claim: weakref.ref[GpuState] | None = None  # by which the binding knows the slot as this state's
        self.listed: list[int] = []  # pages in the slot's table
        self.stale = True  # whether the slot's rows must be loaded first
        self.ahead: int | None = None  # number of the step, not taken over yet, that has the next token's rows in place
        self._held: tuple[LayerTail, ...] | None = None
        super().__init__(pool, tails, replay=replay)

    @property
    def tails(self) -> tuple[LayerTail, ...]:
        """The newest rows as tensors, copied from the slot where it is ahead of them."""
        held = self._held
        if held is None:
            with self._binding.lock:
                if self._held is None:
                    assert self.slot is not None, "the rows are neither held nor in a slot"
                    self._held = self._binding.slots.save(self.slot, self.length)
                held = self._held
        return held

    @tails.setter
    def tails(self, tails: tuple[LayerTail, ...]) -> None:
        self._held, self.stale, self.ahead = tails, True, None

    @property
    def nbytes(self) -> int:
        """Bytes this sequence occupies: its pages (shared ones counted in full), its slot, its token ids."""
        return len(self.pages) * self.layout.page_bytes + self._binding.slot_bytes + 4 * self.length

    def advanced(self, ids: np.ndarray) -> None:
        """A step has read `ids` into the slot and the reserved pages."""
        self._append_ids(ids)
        self._held, self.stale, self.ahead = None, False, None
        self._mark()

    def rollback(self, n: int) -> None:
        """As `SequenceState.rollback`; where the slot's rings still have what the next step needs, nothing is moved."""
        target, slots = self.length - n, self._binding.slots
        if self.slot is None or self.stale or not 0 < n <= self.length or not slots.holds(self.slot, target):
            super().rollback(n)
            return
        self.length, self._held, self.ahead = target, None, None
        self._forget_marks(target)
        self._drop_pages(-(-target // PAGE_TOKENS))

    def fork(self) -> SequenceState:
        """As `SequenceState.fork`. Pages of a file come into the slab before, once for all forks, and are shared there.
        LimitError when it has no room."""
        self._binding.bring(self)
        return super().fork()

    def leave(self) -> None:
        """Give the slot up; the rows are held from now on."""
        if self.slot is not None:
            held = self.tails
            self.slot, self.listed = None, []
            self.tails = held

    def close(self) -> None:
        """Give pages and slot back."""
        if not self._closed:
            self._binding.free(self)
        super().close()

    def _like(self, tails: tuple[LayerTail, ...]) -> GpuState:
        return GpuState(self.pool, tails, binding=self._binding, replay=self._replay)
