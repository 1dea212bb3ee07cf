"""When Python looks for garbage while a service runs.

Covers: `Garbage`: what is loaded is looked through no more, what is new a little at a time, and all that became old
since when no job is there. Does not cover: memory that is no Python object (pages, tails).

Whoever collects keeps all other threads from Python's code: 20 ms for all that a service has made in minutes, ten
tokens of a small model. What dies in circles there is little (a few hundred objects of a prompt of 8K tokens, no
tensor), so it can wait; under a load that never ends it is collected too, late.
"""

from __future__ import annotations

import gc
import threading

_YOUNG = 250  # new objects that are looked through at a time: of 700, the usual, eleven times as many take 1.8 ms
_NEVER = 1 << 30
_IDLE, _BUSY = 16, 4096  # collections of the middle generation, 2,750 new objects each, before all is collected


class Garbage:
    """The collector of the process between `begin` and `end`; `look` is for several threads."""

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None
        self._looking = threading.Lock()

    def begin(self) -> None:
        """Collect all, which takes a moment, and keep what is left for good. Where the collector is off it stays so."""
        gc.collect()
        gc.freeze()
        self._before = first, second, _ = gc.get_threshold()
        if first:
            gc.set_threshold(min(first, _YOUNG), second, _NEVER)

    def due(self, *, idle: bool) -> bool:
        """Whether so much became old that all is to be collected, where no job would wait for it (`idle`) or any."""
        return gc.get_count()[2] >= (_IDLE if idle else _BUSY)

    def look(self) -> None:
        """Collect all; one thread at a time, others go on at once."""
        if self._looking.acquire(blocking=False):
            try:
                gc.collect()
            finally:
                self._looking.release()

    def end(self) -> None:
        """The collector is as before `begin`. Twice is fine."""
        if self._before is not None:
            gc.set_threshold(*self._before)
            self._before = None
            gc.unfreeze()
