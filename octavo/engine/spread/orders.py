"""What the first rank tells a worker, and what a worker answers.

Covers: `Setup`, the orders, and `Line`, the pipe between two processes. Does not cover: who gives orders (`crew`), who
follows them (`worker`).

Every order is small (ids, numbers of states, lengths) but for what comes from files: ROWS and SNAPSHOT hold the bytes
of pages and tails that only the first rank has read. The other end of a pipe is a process of this program's own.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from octavo.cache.layout import RowFormat
from octavo.config.model import ModelConfig


class Order(StrEnum):
    """Words of the first rank; what stands behind each are its arguments."""

    SETUP = "setup"  # a Setup, first of all
    NEW = "new"  # state
    FORK = "fork"  # state, twin
    ROLLBACK = "rollback"  # state, tokens
    CLOSE = "close"  # state
    ADOPT = "adopt"  # state, number of the pages' rows, pages
    ROWS = "rows"  # number, {store: bytes [rows, row_bytes]}
    SNAPSHOT = "snapshot"  # state, tails by name, ids
    STEP = "step"  # state, ids, controls, all_rows, body
    ADVANCE = "advance"  # state, ids, controls, body
    WHOLE = "whole"  # ids, body
    FINGERPRINT = "fingerprint"
    DIGEST = "digest"  # state -> a DIGEST answer
    STOP = "stop"


class Said(StrEnum):
    """Words of a worker."""

    READY = "ready"  # bytes of its weights
    DIGEST = "digest"  # of a state
    FAILED = "failed"  # why, one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How every rank makes its share of the model; `rank` differs.

    store: the file by which ranks find each other. seconds: the longest exchange. threads: of torch, on a CPU.
    """

    folder: Path
    config: ModelConfig
    dtype: str
    device: str
    main: RowFormat
    index: RowFormat
    capacity_tokens: int
    chunk: int | None
    name: str
    store: Path
    rank: int
    count: int
    seconds: float
    threads: int

    @property
    def own_device(self) -> str:
        """This rank's device: one GPU each."""
        return f"cuda:{self.rank}" if self.device == "cuda" else self.device


class Line:
    """One end of a pipe of whole messages. EOFError or OSError where the other end is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, word: Order | Said, *args: Any) -> None:
        """Waits while the pipe is full."""
        self.send_made(made(word, *args))

    def send_made(self, message: bytes) -> None:
        """As `send`, of what `made` gave."""
        self._connection.send_bytes(message)

    def receive(self) -> tuple[Any, ...]:
        """Word and arguments; waits for them."""
        return pickle.loads(self._connection.recv_bytes())

    def close(self) -> None:
        """Twice is fine."""
        self._connection.close()


def line_of(error: BaseException) -> str:
    """An error as one line: its kind and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def made(word: Order | Said, *args: Any) -> bytes:
    """A message for several ends."""
    return pickle.dumps((word, *args), protocol=pickle.HIGHEST_PROTOCOL)
