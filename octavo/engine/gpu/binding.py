"""Which sequence has which slot.

Covers: `Binding`: a state gets a slot when a step needs it, the one used longest ago gives its slot up; its pages are
brought into the pool's one slab, where the kernels read. Does not cover: the rows themselves (`octavo.cache.slots`).

Steps are made by one thread at a time, but a state may end, or be asked for its rows, on any other: `lock` is held
while it is decided who has which slot and while rows leave one. A state that is collected ends wherever that happens,
on the thread that holds the lock too, and behind the moment from which nobody can reach it: what it gives back is
looked at again, and only what is its own still (`GpuState.claim`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

from octavo.cache.pool import PagePool
from octavo.cache.slots import Slots
from octavo.config.errors import LimitError
from octavo.engine.gpu.state import GpuState


class Binding:
    """Hands out the slots of `slots` to the sequences of `pool`."""

    def __init__(self, pool: PagePool, slots: Slots) -> None:
        self.pool, self.slots = pool, slots
        self.lock = threading.RLock()  # a state that is collected ends on whatever thread holds it
        self._users: dict[int, weakref.ref[GpuState]] = {}  # by slot, the one used longest ago first
        self._unused = list(reversed(range(slots.count)))

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return self.slots.nbytes // self.slots.count

    def bind(self, states: Sequence[GpuState]) -> list[int]:
        """The slots of these states, with their rows and the pages of what they have reserved.

        Raises LimitError when they are more than there are slots, or a page lies outside the slab.
        """
        if len(states) > self.slots.count:
            most = self.slots.count
            raise LimitError(f"{len(states)} sequences at a time are more than the {most} slots of this GPU")
        for state in states:  # without the lock: making room for pages may end other states
            if state.slot is None or state.listed != state.pages:
                self.bring(state)
        with self.lock:
            return self._bind(states)

    def _bind(self, states: Sequence[GpuState]) -> list[int]:
        for state in states:
            if state.slot is not None:
                self._users[state.slot] = self._users.pop(state.slot)
        for state in states:
            if state.slot is None:
                state.slot, state.listed, state.stale = self._take(), [], True
                state.claim = self._users[state.slot] = weakref.ref(state)
            if state.stale:
                self.slots.load(state.slot, state.tails, state.length)
                state.stale = False
            self._list_pages(state)
        return [state.slot for state in states if state.slot is not None]

    def free(self, state: GpuState) -> None:
        """The slot of a state that needs it no more."""
        if state.slot is None:
            return
        with self.lock:
            slot, state.slot = state.slot, None
            if slot is not None and self._users.get(slot) is state.claim:
                del self._users[slot]
                self._unused.append(slot)

    def move(self, slots: Slots) -> None:
        """Use other slots from now on; whoever has one of the old ones leaves it."""
        with self.lock:
            for user in list(self._users.values()):
                if (state := user()) is not None:
                    state.leave()
            self.slots, self._users = slots, {}
            self._unused = list(reversed(range(slots.count)))

    def _take(self) -> int:
        while not self._unused:
            slot = next(iter(tuple(self._users)), None)
            user = None if slot is None else self._users.pop(slot, None)
            if slot is None and not self._unused:
                raise LimitError(f"none of the {self.slots.count} slots of this GPU is free, and no sequence has one")
            if slot is None or user is None:  # it ended just now
                continue
            try:
                if (state := user()) is not None and state.slot == slot:
                    state.leave()
            except BaseException:  # its rows are nowhere else
                self._users[slot] = user
                raise
            return slot
        return self._unused.pop()

    def _list_pages(self, state: GpuState) -> None:
        assert state.slot is not None
        if state.listed == state.pages:
            return
        most, same = min(len(state.listed), len(state.pages)), 0
        while same < most and state.listed[same] == state.pages[same]:
            same += 1
        self.slots.put_pages(state.slot, state.pages[same:], start=same)
        state.listed = list(state.pages)

    def bring(self, state: GpuState) -> None:
        """Copy pages that live elsewhere (a file's) into the slab; LimitError when it has no room."""
        slab = self.pool.first_slab()
        if any(page >= slab.count for page in state.pages):
            state.move_pages(slab)
