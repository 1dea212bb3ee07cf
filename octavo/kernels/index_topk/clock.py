"""How long this process has chosen entries on the CPU: scoring them and keeping the best.

Covers: two sums of seconds, of chunks and of steps. Does not cover: projecting queries and making keys, GPUs, where
kernels run behind the host; other processes that share a model (`octavo.engine.spread`).

Chunks are timed around the call. Steps run in compiled code, which adds up what `octavo_select` took there (scan.cpp).
The sums are the process's, like its processor time: a step knows no model, only addresses. Threads add up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from octavo.kernels.index_topk import scan


class IndexSeconds(NamedTuple):
    """Seconds in chunks of a text and in steps of a few tokens, since the process began."""

    chunks: float
    steps: float


class _Sum:
    def __init__(self) -> None:
        self._lock, self._nanoseconds = threading.Lock(), 0

    def add(self, nanoseconds: int) -> None:
        with self._lock:
            self._nanoseconds += nanoseconds

    @property
    def seconds(self) -> float:
        return self._nanoseconds / 1e9


@lru_cache(maxsize=1)
def _of_chunks() -> _Sum:
    return _Sum()


@contextmanager
def timed() -> Iterator[None]:
    """Count the seconds from here to the end as those of a chunk."""
    begun = time.perf_counter_ns()
    try:
        yield
    finally:
        _of_chunks().add(time.perf_counter_ns() - begun)


def index_seconds() -> IndexSeconds:
    """What was counted up to now."""
    return IndexSeconds(_of_chunks().seconds, scan.step_nanoseconds() / 1e9)
