"""The one place that picks the body of an operation.

Covers: the choice between the plain reference (`REFERENCE`) and the bodies meant for use (`FAST`), and an override
for tests. Does not cover: the bodies themselves; within `FAST` an operation may still choose by shape, never by
anything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from enum import StrEnum


class Body(StrEnum):
    """Which implementation of every operation runs."""

    REFERENCE = "reference"
    FAST = "fast"


_BODY: ContextVar[Body] = ContextVar("octavo_body", default=Body.FAST)


def body() -> Body:
    """The body in force in this context."""
    return _BODY.get()


@contextlib.contextmanager
def use(choice: Body) -> Iterator[None]:
    """Run the enclosed code with `choice` for every operation; for tests and for reference runs."""
    token = _BODY.set(choice)
    try:
        yield
    finally:
        _BODY.reset(token)
