"""What the time of a thread went to: computing, waiting for a core that others had, or something else.

Covers: `moment`, what the system has counted for the calling thread, and `parts`, the difference between two of them.
Does not cover: what the thread computed. The time without a core is counted by Linux alone; a hypervisor that takes a
core away is not seen from within: that time counts as computed.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

_COUNTS = "/proc/thread-self/schedstat"  # nanoseconds on a core, nanoseconds ready without one, turns


class Moment(NamedTuple):
    """at: seconds of `time.perf_counter`; thread: whose counts these are; computed, without_core: seconds of it so far,
    the latter None where the system does not tell."""

    at: float
    thread: int
    computed: float
    without_core: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Seconds: `whole` = `computed` + `without_core` + `blocked` (on locks, on other threads' Python, asleep)."""

    whole: float
    computed: float
    without_core: float
    blocked: float


class _Counts:
    """The counts of one thread, in a file that is open as long as this."""

    def __init__(self) -> None:
        try:
            self._file: int | None = os.open(_COUNTS, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = None

    def without_core(self) -> float | None:
        """Seconds."""
        return None if self._file is None else int(os.pread(self._file, 96, 0).split()[1]) / 1e9

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class _Own(threading.local):
    """Of each thread its own counts."""

    def __init__(self) -> None:
        self.counts = _Counts()


class Clock:
    """Takes moments; from several threads."""

    def __init__(self) -> None:
        self._own = _Own()

    def moment(self) -> Moment:
        """Now, on the calling thread; some 5 us."""
        return Moment(time.perf_counter(), threading.get_ident(), time.thread_time(), self._own.counts.without_core())


def parts(before: Moment, after: Moment) -> Parts | None:
    """What the time in between went to, None where the two are of different threads or the system does not tell."""
    if before.thread != after.thread or before.without_core is None or after.without_core is None:
        return None
    whole, computed = after.at - before.at, after.computed - before.computed
    waited = min(after.without_core - before.without_core, whole)
    return Parts(whole=whole, computed=computed, without_core=waited, blocked=max(whole - computed - waited, 0.0))
