"""Units shared among processes: who runs which, and lines that several append.

Covers: claims, which end with the process that holds them, however it ends; lines of a file under a lock. Does not
cover: the order of units (`units`), starting processes (`launch`).
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


class Claim:
    """The right to run what is called `name`, of which the folder `out` has one. `taken` is False if another process
    (or another claim of this one) has it."""

    def __init__(self, out: Path, name: str) -> None:
        folder = out / "claims"
        folder.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = (folder / name).open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.taken = True
        except BlockingIOError:
            self.taken = False
            self._file.close()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def append(path: Path, values: Mapping[str, Any]) -> None:
    """One JSON line more, whole, whoever else appends."""
    with _locked(path) as file:
        file.write(json.dumps(values) + "\n")


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file that may be appended to meanwhile; none if there is no file."""
    if not path.exists():
        return []
    with _locked(path) as file:
        file.seek(0)
        return [json.loads(line) for line in file]
