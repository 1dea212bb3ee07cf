"""What the time of a thread went to: computing, waiting for a core that others had, or something else.

Covers: `Clock`, which takes moments, `parts`, the difference between two of them, and `cause`, what made one longer
than usual. Does not cover: what the thread computed. The time without a core is counted by Linux alone; a hypervisor
that takes a core away is not seen from within: that time counts as computed.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

_COUNTS = "/proc/thread-self/schedstat"  # nanoseconds on a core, nanoseconds ready without one, turns


class Moment(NamedTuple):
    """at: seconds of `time.perf_counter`; thread: whose counts these are; computed, without_core: seconds of it so far,
    the latter None where the system does not tell; process: seconds that all threads of the process computed;
    collecting: seconds in which Python looked for garbage, in any thread."""

    at: float
    thread: int
    computed: float
    without_core: float | None
    process: float = 0.0
    collecting: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Seconds: `whole` = `computed` + `without_core` + `blocked` (on locks, on other threads' Python, asleep).
    `others`: what other threads of the process computed meanwhile; `collecting`: in which any looked for garbage."""

    whole: float
    computed: float
    without_core: float
    blocked: float
    others: float = 0.0
    collecting: float = 0.0

    @property
    def idle(self) -> float:
        """Blocked while the other threads did not compute: whoever was waited for had no core. For one other thread; of
        several it is the least."""
        return min(self.blocked, max(self.whole - self.others, 0.0))

    @property
    def own(self) -> float:
        """Without what is laid to the machine: computed, and waited for others of the process that computed."""
        return self.whole - self.without_core - self.idle


class Cause(StrEnum):
    """What most of the time beyond the usual went to."""

    COLLECTING = "Python looked for garbage"
    CORE = "another process had the thread's core"
    HOLDER = "waited while the other threads had no core either"
    WAITED = "waited for other threads of the process"
    COMPUTED = "computed longer, or the hypervisor had the core"


def cause(gap: Parts, usual: float) -> Cause:
    """Why the gap is longer than `usual` seconds, which a thread would compute."""
    if 2 * gap.collecting >= gap.whole - usual:
        return Cause.COLLECTING
    found = {
        Cause.CORE: gap.without_core,
        Cause.HOLDER: gap.idle,
        Cause.WAITED: gap.blocked - gap.idle,
        Cause.COMPUTED: gap.computed - usual,
    }
    return max(found, key=lambda one: found[one])


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
    """Takes moments; from several threads. Python's search for garbage is timed within `with` alone."""

    def __init__(self) -> None:
        self._own = _Own()
        self._collecting = self._begun = 0.0

    def __enter__(self) -> Clock:
        gc.callbacks.append(self._collects)
        return self

    def __exit__(self, *why: object) -> None:
        gc.callbacks.remove(self._collects)

    def moment(self) -> Moment:
        """Now, on the calling thread; some 5 us."""
        return Moment(
            time.perf_counter(), threading.get_ident(), time.thread_time(), self._own.counts.without_core(),
            time.process_time(), self._collecting,
        )  # fmt: skip

    def _collects(self, phase: str, _: dict[str, int]) -> None:
        """One thread at a time collects, and no other runs Python meanwhile."""
        if phase == "start":
            self._begun = time.perf_counter()
        else:
            self._collecting += time.perf_counter() - self._begun


def parts(before: Moment, after: Moment) -> Parts | None:
    """What the time in between went to, None where the two are of different threads or the system does not tell."""
    if before.thread != after.thread or before.without_core is None or after.without_core is None:
        return None
    whole, computed = after.at - before.at, after.computed - before.computed
    waited = min(after.without_core - before.without_core, whole)
    return Parts(
        whole=whole, computed=computed, without_core=waited, blocked=max(whole - computed - waited, 0.0),
        others=max(after.process - before.process - computed, 0.0), collecting=after.collecting - before.collecting,
    )  # fmt: skip
