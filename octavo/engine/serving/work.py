"""What the service runs for a job, a task at a time.

Covers: `Work`, what the two kinds of job (`answering`, `reading`) have in common, and how a task hears that its job was
given up. Does not cover: which task comes when (`scheduler`, `service`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from octavo.engine.document import Document
from octavo.engine.serving.events import LATE, Event, JobUsage, Last
from octavo.engine.serving.shelf import Shelf
from octavo.model.stretch import Row, Stretch

Tell = Callable[[Event], None]


class GivenUp(Exception):
    """Raised inside a task whose job was cancelled; the message says why."""


class Work(Protocol):
    """One job under way. The service calls one method at a time; `close` gives everything back, also in the middle.
    `document`: what it goes on from, which the service gives back to the library."""

    id: str
    tell: Tell
    watch: Watch
    document: Document | None

    @property
    def before(self) -> int:
        """Tokens of a document in front, whose pages are not the job's own."""
        ...

    @property
    def total(self) -> int:
        """Tokens to read."""
        ...

    @property
    def most(self) -> int:
        """Answer tokens at most."""
        ...

    def start(self) -> tuple[int, int]:
        """Take the state that the job begins with: tokens that it has read already, whole pages that it shares."""
        ...

    def read(self, count: int, *, workers: int) -> bool:
        """Read the next `count` tokens, up to `workers` chunks at the same time; whether the job is over."""
        ...

    def beside(self) -> tuple[Stretch, int] | None:
        """The next step of the answer and the token that it reads, where it may be taken together with those of other
        jobs (`Runner.together`); its row is for `answer` then."""
        ...

    def answer(self, steps: int, row: Row | None = None) -> tuple[int, bool]:
        """Make up to `steps` tokens, the first one from `row` where that was made: how many it were, and whether the
        job is over."""
        ...

    def save(self, shelf: Shelf) -> None:
        """Give the pages back, and remember on `shelf` what they held."""
        ...

    def restore(self, shelf: Shelf) -> None:
        """The opposite of `save`. What was damaged or removed meanwhile is read again: it takes longer, and gives the
        same."""
        ...

    def end(self) -> Last:
        """Its last event, when it is over."""
        ...

    def usage(self) -> JobUsage:
        """What it took so far."""
        ...

    def close(self) -> None: ...


class Watch:
    """Clock and fate of one job. Times are seconds since submission."""

    def __init__(self, seconds: float | None = None) -> None:
        self._begun = time.monotonic()
        self._until = None if seconds is None else self._begun + seconds
        self.why: str | None = None
        self.started: float | None = None
        self.first: float | None = None

    def give_up(self, why: str) -> None:
        """The first reason counts."""
        if self.why is None:
            self.why = why

    def check(self) -> None:
        """Raise GivenUp where the job was cancelled or is late."""
        if self.why is None and self._until is not None and time.monotonic() > self._until:
            self.give_up(LATE)
        if self.why is not None:
            raise GivenUp(self.why)

    @property
    def until(self) -> float | None:
        """Monotonic second of the deadline."""
        return self._until

    def now(self) -> float:
        return time.monotonic() - self._begun
