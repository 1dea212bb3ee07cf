"""The same tiny model in one process and over two."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from octavo.engine.llm import LLM, load
from octavo.engine.spread.crew import Crew
from octavo.engine.spread.runner import SpreadRunner
from tests.support.tiny import tiny_config, tiny_engram, write_tiny_model

SECONDS = 60


class Pair(NamedTuple):
    """One process, two processes, the folder of both."""

    one: LLM
    two: LLM
    folder: Path


def spread_folder(folder: Path, **fields: Any) -> Path:
    """A tiny model with an Engram, 8 picks of a query, windows of 32."""
    config = tiny_config(**({"max_position_embeddings": 16384, "engram": tiny_engram(layers=(1,))} | fields))
    return write_tiny_model(folder, config, 1)


@contextmanager
def pair(folder: Path, *, chunk: int = 64, **options: Any) -> Iterator[Pair]:
    """Both of the model in `folder`; the processes are gone behind it."""
    two = load(folder, chunk=chunk, workers=2, **options)
    pids = crew_of(two).pids
    try:
        yield Pair(load(folder, chunk=chunk, **options), two, folder)
    finally:
        two.close()
    assert all(gone(pid) for pid in pids)


def crew_of(llm: LLM) -> Crew:
    """The hold on the other processes."""
    assert isinstance(llm.runner, SpreadRunner)
    return llm.runner.crew


def gone(pid: int) -> bool:
    """Whether a process is no more, or is none more before some time is over."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], SECONDS)[0])
    finally:
        os.close(descriptor)
