"""Whether a program gives the results that are expected.

Covers: the program of an answer and its tests, comparing results. The expected results never enter the sandbox, so that
a program cannot read them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from octavo.sandbox import Outcome, Status

Test = tuple[str, str]
"""A call, and the JSON of its result."""

_CLOSE = 1e-9


def program(answer: str, calls: Sequence[str]) -> str:
    """A script that defines `answer` and ends with the list of what `calls` give."""
    return answer + "\n;[\n" + ",\n".join(calls) + "\n];"


def passed(outcome: Outcome, tests: Sequence[Test]) -> bool:
    """The run of `program` gave the expected result of every test."""
    if outcome.status is not Status.OK:
        return False
    try:
        results = outcome.value
    except ValueError:
        return False
    if not isinstance(results, list) or len(results) != len(tests):
        return False
    return all(same(given, json.loads(expected)) for given, (_, expected) in zip(results, tests, strict=True))


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: kinds differ (1 is not true), the order of keys does not matter, numbers within 1e-9 of size."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right or abs(left - right) <= _CLOSE * max(abs(left), abs(right))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return isinstance(left, str) and isinstance(right, str) and left == right
