"""The tasks of `octavo bench`, each a function of the options that were given.

Covers: what an option left out means, where a record goes, which lines tell of it. Does not cover: parsing, printing
(`octavo.cli.bench`), the work itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from octavo.bench.record import BenchError, check_all_good
from octavo.bench.report import report
from octavo.bench.run import run
from octavo.bench.selection import Plan, Size
from octavo.bench.table import line


class Options(Protocol):
    """What the command line gives; None is left out."""

    @property
    def ops(self) -> tuple[str, ...]: ...
    @property
    def cases(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> Size | None: ...
    @property
    def device(self) -> Literal["cpu", "cuda"]: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def check_only(self) -> bool: ...
    @property
    def results(self) -> str: ...
    @property
    def out(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Done:
    """A task's result as plain values, its last lines for people, and what is to be raised once both are written."""

    record: dict[str, Any]
    lines: tuple[str, ...] = ()
    error: BenchError | None = None


Task = Callable[[Options, Callable[[str], None]], Done]


def kernels(options: Options, say: Callable[[str], None]) -> Done:
    """Check and time kernels, saying a line after each; the record goes to docs/results unless nothing is timed."""
    plan = Plan(
        device=options.device,
        ops=options.ops,
        names=options.cases,
        size=options.size or ("all" if options.check_only else "full"),
        check_only=options.check_only,
        seconds=options.seconds,
    )
    usual = None if options.check_only else f"docs/results/kernels-{options.device}.json"
    out = options.out or usual
    record = run(plan, None if out is None else Path(out), each=lambda case: say(line(case)))
    lines = () if out is None else (f"written to {out}",)
    return Done(record=record, lines=lines, error=check_all_good(record))


def draw(options: Options, say: Callable[[str], None]) -> Done:
    """Figures and tables of what the folder of results holds."""
    found = report(Path(options.results), Path(options.out or "docs/figures"))
    written, missing = [str(path) for path in found.written], list(found.missing)
    lines = [f"written: {path}" for path in written] + [f"missing: {what}" for what in missing]
    return Done(record={"written": written, "missing": missing}, lines=tuple(lines))


TASKS: Mapping[str, Task] = {"kernels": kernels, "report": draw}
