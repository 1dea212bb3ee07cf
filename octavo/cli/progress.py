"""Progress lines on stderr, drawn only if that is a terminal.

Covers: reading (tokens, tokens a second, time left, bytes of cache), work in named phases, and a training run, whose
log lines are printed where there is no terminal. Never stdout.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from octavo.cli.output import size

if TYPE_CHECKING:
    from rich.progress import Progress


class Meter:
    """A context manager that is called with `(done_tokens, total_tokens, cache_bytes)` as the work goes on.

    Silent when stderr is no terminal; it still keeps `done`, `total` and `rate`, which messages may use.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.done = self.total = 0
        self._first: tuple[float, int] | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> Meter:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(self.title, total=None, figures="")
            self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the line away, so that other output may follow; closing twice is fine."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, done_tokens: int, total_tokens: int, cache_bytes: int) -> None:
        self.done, self.total = done_tokens, total_tokens
        self._first = self._first or (time.monotonic(), done_tokens)
        if self._bar is not None:
            self._bar.update(self._task, completed=done_tokens, total=total_tokens, figures=self.figures(cache_bytes))

    @property
    def rate(self) -> float:
        """Tokens a second since the first call; what an earlier run had done does not count. 0.0 when unknown."""
        if self._first is None:
            return 0.0
        seconds = time.monotonic() - self._first[0]
        return (self.done - self._first[1]) / seconds if seconds > 0 else 0.0

    def figures(self, cache_bytes: int) -> str:
        """The text right of the bar."""
        rate = self.rate
        left = f"{(self.total - self.done) / rate:,.0f} s left" if rate > 0 else "…"
        return f"{self.done:,}/{self.total:,} tokens  {rate:,.0f}/s  {left}  cache {size(cache_bytes)}"


class Steps:
    """A context manager that is called with `(title, phase, done, all)`; draws one line for the phase at work."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def __enter__(self) -> Steps:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=None, figures="")
            self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, title: str, phase: str, done: int, total: int) -> None:
        if self._bar is not None:
            figures = f"{phase} {done:,}/{total:,}"
            self._bar.update(self._task, description=title, completed=done, total=total, figures=figures)


class Training:
    """A context manager that is called with what each line of a run's log says; events stay above the line."""

    def __init__(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
        self._first: tuple[float, int] | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> Training:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(self.title, total=self.steps, figures="…")
            self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, values: Mapping[str, Any]) -> None:
        if self._bar is None:
            print(json.dumps(values), file=sys.stderr, flush=True)
        elif "event" in values:
            self._bar.console.print(json.dumps(values), markup=False, highlight=False)
        else:
            self._bar.update(self._task, completed=values["step"] + 1, figures=self.figures(values))

    def figures(self, values: Mapping[str, Any]) -> str:
        """The text right of the bar."""
        done, now = values["step"] + 1, time.monotonic()
        since, first = self._first = self._first or (now, done)
        rate = (done - first) / (now - since) if now > since else 0.0
        left = f"{(self.steps - done) / rate:,.0f} s left" if rate > 0 else "…"
        speed = f"{values['tokens_per_s']:,.0f} tokens/s  MFU {values['mfu']:.1%}"
        return f"{done:,}/{self.steps:,} {values['stage']}  loss {values['loss']:.3f}  {speed}  {left}"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    return Progress(*columns, console=Console(stderr=True), transient=True)
