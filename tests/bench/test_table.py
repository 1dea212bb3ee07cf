"""Records as lines and tables."""

from __future__ import annotations

import pytest

from octavo.bench.table import line, markdown, seconds
from tests.bench.toys import outcome, record


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (4.561e-6, "4.56 us"), (0.00099, "990 us"), (0.0012345, "1.23 ms"), (0.9999, "1 s"), (71.0, "71 s")],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_a_timed_case_says_times_bound_share_and_peers() -> None:
    assert line(outcome()).lstrip() == (
        "ok  double one: cold 2 s, warm 1.5 s; bound 1 s (bytes), 50% of it; "
        "against v1.2 eager 2x (1.9-2.2), other failed"
    )
    assert line(outcome(stable=False)).endswith("; warming up did not settle")


def test_a_case_without_bound_says_why() -> None:
    bound = {"seconds": None, "share": None, "by": None, "message": "no FP8 here"}
    assert "bound - (no FP8 here), - of it; against -" in line(outcome(bound=bound, peers={}))


def test_other_cases_say_their_error_or_their_reason() -> None:
    assert line(outcome(status="right")).lstrip() == "right  double one: error 0 of 1e-06 allowed"
    assert line(outcome(status="failed", message="boom")).lstrip() == "failed  double one: boom"


def test_markdown_has_a_row_for_each_time_and_names_what_has_none() -> None:
    cases = [outcome(), outcome("two", status="right"), outcome("three", status="wrong", message="error 1")]
    head, _, *rows = markdown(cases, record()["about"]).splitlines()
    assert head.startswith("made up, 2026-11-26T00:00:00+00:00, commit 0123456789ab. Times are medians (cold)")
    assert rows == [
        "| operation | case | time | 10-90 % | bound | by | share | against |",
        "|---|---|---|---|---|---|---|---|",
        "| double | one | 2 s | 1.9 s - 2.2 s | 1 s | bytes | 50% | v1.2 eager 2x (1.9-2.2), other failed |",
        "",
        "Without a time:",
        "",
        "- double three: wrong, error 1",
    ]
