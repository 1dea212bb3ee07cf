"""What came of one program. Covers: the record and how it is read from the child's report. Not here: running."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a program ended: it did, or threw, or met the limit of time, memory or output."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended and what it left.

    output: what it wrote with `console`, also up to an error; "" where it was stopped for time or memory.
    result: JSON of the last statement's value, of what it resolves to for a promise; None unless the status is ok. What
    JSON has no word for is an object with the key $: {"$": "undefined"}, "NaN", "Infinity", "-Infinity", "function",
    "symbol" likewise, and {"$": "bigint", "value": "12"}; lone surrogates are escaped.
    error: name and message in one string; None when nothing was thrown and no limit was met. line: the program's line,
    from 1, where that is known. asserted, failed: calls of console.assert, and those whose condition did not hold.
    """

    status: Status
    output: str = ""
    result: str | None = None
    error: str | None = None
    line: int | None = None
    asserted: int = 0
    failed: int = 0

    @property
    def value(self) -> Any:
        """The result as Python values; None where there is none. Raises ValueError for one nested too deep to read."""
        if self.result is None:
            return None
        try:
            return json.loads(self.result)
        except RecursionError:
            raise ValueError("the result is nested too deep for Python's JSON") from None


def outcome_of(report: Any, messages: dict[Status, str]) -> Outcome:
    """The outcome that a report of the child tells; `messages` for limits. ValueError for one that is no such report.

    The child is not trusted: a program that took it over can report what it likes about itself, but nothing else.
    """
    try:
        fields = {name: report[name] for name in Outcome.__dataclass_fields__ if name in report}
        status = Status(fields.pop("status"))
        kinds = (("output", str), ("result", str | None), ("error", str | None), ("line", int | None),
                 ("asserted", int), ("failed", int))  # fmt: skip
        if not all(isinstance(fields[name], kind) for name, kind in kinds if name in fields):
            raise ValueError("a field has the wrong type")
    except (KeyError, TypeError) as error:
        raise ValueError(f"no report: {error}") from None
    if status in messages:
        fields |= {"error": messages[status], "result": None}
    return Outcome(status=status, **fields)
