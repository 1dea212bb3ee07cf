"""Which core a lane runs on.

Covers: a core of its own for each lane while all of them work, every core otherwise. Does not cover: how many lanes
there are (`settings`), systems that cannot say which cores a thread may run on: there the system decides.

A lane sleeps for moments, to let another one's Python run. The system may wake it on the core where that one computes
and keep both there for a slice of 4 ms, three tokens of a small model. While one lane has nothing to do, the others run
wherever there is room.
"""

from __future__ import annotations

import os


class Cores:
    """The cores of a service's lanes; `take` is for the lane's own thread."""

    def __init__(self, lanes: int) -> None:
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._allowed = frozenset(allowed)
        self._own = [frozenset((core,)) for core in allowed] if 1 < len(allowed) == lanes else []
        self._now = [self._allowed] * lanes

    def take(self, lane: int, *, apart: bool) -> None:
        """Run on the lane's own core if lanes are to keep `apart` and there are as many cores as lanes, on any else."""
        if not self._own:
            return
        wanted = self._own[lane] if apart else self._allowed
        if self._now[lane] != wanted:
            try:
                os.sched_setaffinity(0, wanted)
            except OSError:  # the cores that the process may use were changed meanwhile: the system decides from now on
                self._own = []
                return
            self._now[lane] = wanted
