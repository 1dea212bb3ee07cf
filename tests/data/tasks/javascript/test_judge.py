"""Results are compared by value, not by text."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.data.tasks.javascript.judge import passed, program, same
from octavo.sandbox import Outcome, Status


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, True), (0.1 + 0.2, 0.3, True), (1, 2, False), (1, True, False), (0, False, False), (0, None, False),
        (None, None, True), ("a", "a", True), ("1", 1, False), ([1, [2]], [1, [2]], True), ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ({"a": 1}, {"a": 1, "b": 1}, False), ([], {}, False),
    ],
)  # fmt: skip
def test_same(left: Any, right: Any, equal: bool) -> None:
    assert same(left, right) is same(right, left) is equal


def test_program_ends_with_the_results() -> None:
    assert program("function f() {}\n// end", ["f()", "f(1)"]) == "function f() {}\n// end\n;[\nf(),\nf(1)\n];"


@pytest.mark.parametrize(
    ("outcome", "right"),
    [
        (Outcome(status=Status.OK, result="[3, [1]]"), True),
        (Outcome(status=Status.OK, result="[3, [2]]"), False),
        (Outcome(status=Status.OK, result="[3]"), False),
        (Outcome(status=Status.OK, result='"[3,[1]]"'), False),
        (Outcome(status=Status.OK, result="[" * 100_000 + "]" * 100_000), False),
        (Outcome(status=Status.ERROR, result=None, error="x"), False),
    ],
)
def test_passed_needs_every_result(outcome: Outcome, right: bool) -> None:
    assert passed(outcome, [("f(1)", "3"), ("f(2)", "[1]")]) is right
