"""What the scheduler gives to lanes, and the limits it keeps.

Covers: the values. Does not cover: choosing among jobs (`scheduler`), running a task (`service`). Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from octavo.config.errors import UsageError


class Kind(StrEnum):
    """What a lane does for a job."""

    START = "start"
    READ = "read"
    ANSWER = "answer"
    SAVE = "save"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work for one lane. count: prompt tokens to read now (READ) or tokens to make now (ANSWER), else 0. also: further
    jobs that take the same step beside `id` (ANSWER)."""

    kind: Kind
    id: str
    count: int = 0
    also: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """All jobs of the task."""
        return self.id, *self.also


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits, each at least 1 (UsageError). chunk: READ tasks end at its multiples from the sequence's beginning;
    beside: those beside a job that answers, at the multiples of this divisor of it (None: no smaller ones);
    ahead_tokens: answer tokens reserved at START; read_alone: chunks of a READ when no job answers; burst: tokens of an
    ANSWER; together: jobs of one, at most."""

    lanes: int = 2
    chunk: int = 256
    beside: int | None = None
    page_tokens: int = 256
    max_running: int = 64
    max_queue: int = 1024
    total_pages: int
    ahead_tokens: int = 1024
    read_alone: int = 8
    burst: int = 1
    together: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None and value < 1:
                raise UsageError(f"{field.name} is {value}; it must be at least 1")
        if self.beside is not None and self.chunk % self.beside:
            raise UsageError(f"beside is {self.beside}; it must divide chunk, which is {self.chunk}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many jobs are in each state; a busy one where its task brings it."""

    waiting: int
    reading: int
    answering: int
    swapped: int
    busy: int
