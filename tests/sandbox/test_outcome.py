"""Reports become outcomes; what is no report does not."""

import pytest

from octavo.sandbox.outcome import Outcome, Status, outcome_of


def test_fields_are_taken_and_others_left() -> None:
    report = {"status": "error", "output": "x", "error": "no", "line": 3, "asserted": 2, "failed": 1, "other": 5}
    assert outcome_of(report, {}) == Outcome(
        status=Status.ERROR, output="x", error="no", line=3, asserted=2, failed=1
    )  # fmt: skip


def test_a_limit_has_its_own_message_and_no_result() -> None:
    found = outcome_of({"status": "output", "error": "RangeError: x", "result": "5"}, {Status.OUTPUT: "too much"})
    assert (found.error, found.result) == ("too much", None)


@pytest.mark.parametrize(
    "report", [None, 5, [], {}, {"status": "fine"}, {"status": "ok", "result": 5}, {"status": "ok", "line": "3"}]
)
def test_anything_else_is_no_report(report: object) -> None:
    with pytest.raises(ValueError):
        outcome_of(report, {})


def test_value_reads_the_result() -> None:
    assert Outcome(status=Status.OK, result="[1]").value == [1]
    assert Outcome(status=Status.TIMEOUT).value is None
    with pytest.raises(ValueError, match="nested too deep"):
        _ = Outcome(status=Status.OK, result="[" * 100_000 + "]" * 100_000).value
