"""The run's log: one JSON line every few steps.

Covers: appending, and dropping lines of steps that a resumed run does again. Does not cover: plots.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class RunLog:
    """Appends to `path`; on resume, lines of steps at or beyond `from_step` (and a torn last one) are removed first."""

    def __init__(self, path: Path, *, from_step: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: list[str] = []
        if from_step and path.exists():
            kept = [line for line in path.read_text().splitlines() if _before(line, from_step)]
        path.write_text("".join(line + "\n" for line in kept))

    def write(self, **values: Any) -> str:
        """Append one line; floats are rounded to 5 significant digits."""
        line = json.dumps({k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in values.items()})
        with open(self._path, "a") as f:
            f.write(line + "\n")
        return line


def _before(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] < step
    except ValueError:  # the run was killed while it wrote this line
        return False
