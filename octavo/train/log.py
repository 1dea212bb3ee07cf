"""The run's log: JSON lines, of steps and of events.

Covers: appending, and taking back what came after the checkpoint that a run goes on from. Does not cover: plots,
TensorBoard (`board`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


class RunLog:
    """Appends to `path`. A run begins with `empty`, or with `restore`, a part of a checkpoint being its length."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def empty(self) -> None:
        """Begin anew."""
        self._path.write_text("")

    def write(self, values: Mapping[str, Any]) -> str:
        """Append one line; floats, those of lists too, are rounded to 5 significant digits."""
        line = json.dumps({name: _rounded(value) for name, value in values.items()})
        with open(self._path, "a") as f:
            f.write(line + "\n")
        return line

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """How long the log is, in bytes."""
        return {}, {"bytes": self._path.stat().st_size if self._path.exists() else 0}

    def check(self, values: Mapping[str, Any]) -> None:
        """Every length can be gone back to; a log that was made shorter stays as it is."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Cut off what was written after the checkpoint: those steps are done again."""
        with open(self._path, "ab") as f:
            f.truncate(min(values["bytes"], f.tell()))


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
