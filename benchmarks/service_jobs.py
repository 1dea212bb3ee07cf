"""Jobs of a service as its benchmarks see them.

Covers: what a job said and when (`Heard`), a service for them, waiting for an end. Does not cover: what is measured
(`service_load`, `service_gaps`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from octavo.engine.llm import LLM
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, Piece, Reading
from octavo.engine.serving.job import Job
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings


class Heard:
    """What one job said, and when."""

    def __init__(self, after: Callable[[], None] | None = None) -> None:
        self.tokens: list[int] = []
        self.times: list[float] = []
        self.done = 0
        self.last: Event | None = None
        self.over, self.begun = threading.Event(), threading.Event()
        self._after = after

    def __call__(self, event: Event) -> None:
        if isinstance(event, Piece):
            self.tokens += [token.id for token in event.tokens]
            self.times.append(time.perf_counter())
        elif isinstance(event, Reading):
            self.done = event.done
        if isinstance(event, Ended | Cancelled | Failed):
            self.last = event
            self.over.set()
            if self._after is not None:
                self._after()
        self.begun.set()

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.times[:-1], self.times[1:], strict=True)]


def started(llm: LLM) -> Service:
    service = Service(llm, ServiceSettings(cache_bytes=6 * 2**30))
    service.start()
    return service


def ended(service: Service, job: Job) -> Heard:
    heard = Heard()
    service.submit(job, heard)
    heard.over.wait()
    if not isinstance(heard.last, Ended):
        raise SystemExit(f"job {job.id} did not end: {heard.last}")
    return heard
