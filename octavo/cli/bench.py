"""`octavo bench`: check and time the kernels, and draw what was recorded."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from octavo.cli.output import put, put_json


@dataclass(frozen=True, kw_only=True)
class Command:
    """Check kernels against their references, time them beside their bounds and peers, and draw what was recorded."""

    task: Positional[Literal["kernels", "report"]]
    """kernels: check and time them, a line a case; report: figures and tables from recorded results."""
    ops: tuple[str, ...] = ()
    """kernels: these operations only."""
    cases: tuple[str, ...] = ()
    """kernels: cases of these names only."""
    size: Literal["tiny", "full", "all"] | None = None
    """kernels: tiny cases are checked, full ones timed; left out: full, or all with --check-only."""
    device: Literal["cpu", "cuda"] = "cpu"
    """kernels: where they run."""
    seconds: float | None = None
    """kernels: begin no case after this time, and end the one at work; what is done is kept."""
    check_only: bool = False
    """kernels: check every result against its reference, time nothing; written only with --out."""
    results: str = "docs/results"
    """report: the folder of recorded results."""
    out: str | None = None
    """The file to write, or report's folder; left out: docs/results/kernels-DEVICE.json or docs/figures."""
    json: bool = False
    """Print one JSON object at the end instead of lines."""

    def run(self) -> None:
        """Do the task and print."""
        from octavo.bench.tasks import TASKS

        done = TASKS[self.task](self, self._say)
        if self.json:
            put_json(done.record)
        else:
            put(*done.lines)
        if done.error is not None:
            raise done.error

    def _say(self, line: str) -> None:
        if not self.json:
            put(line)
            sys.stdout.flush()  # a run is long: what is done is seen at once
