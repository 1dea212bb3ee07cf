"""Records as lines and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.bench.ratios import Records
from octavo.bench.record import BenchError
from octavo.bench.sources import newest
from octavo.bench.table import letter, line, markdown, refreshed, seconds
from tests.bench.toys import outcome, record, sources


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


def test_markdown_has_a_row_for_each_time_names_what_has_none_and_every_record(tmp_path: Path) -> None:
    old = record(outcome("three", status="wrong", message="error 1"), outcome("two", status="right"))
    new = record(outcome(), date="2026-11-27T01:00:00+00:00", changed=True)
    text = markdown(newest(sources(tmp_path, old=old, new=new)), "a device")
    head, _, method, _, *rows = text.splitlines()
    assert head == "# Kernels on a device"
    assert "Times are medians (cold)" in method
    assert rows == [
        "| operation | case | time | 10-90 % | bound | by | share | against | record |",
        "|---|---|---|---|---|---|---|---|---|",
        "| double | one | 2 s | 1.9 s - 2.2 s | 1 s | bytes | 50% | v1.2 eager 2x (1.9-2.2), other failed | b |",
        "",
        "Without a time:",
        "",
        "- double three: wrong, error 1 (a)",
        "- double two: right, only checked (a)",
        "",
        "Records:",
        "",
        "- a: `old.json`, 2026-11-26 00:00, commit 0123456789ab",
        "- b: `new.json`, 2026-11-27 01:00, commit 0123456789ab with changes",
    ]


@pytest.mark.parametrize(("number", "text"), [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (52, "ba")])
def test_letters(number: int, text: str) -> None:
    assert letter(number) == text


def test_rows_of_a_page_that_name_a_case_are_refreshed(tmp_path: Path) -> None:
    wrong = outcome("three", status="wrong", message="error 1")
    records = Records.of(sources(tmp_path, a=record(outcome(), wrong)))
    others = "| double | one | x | y | z |\n"
    page = f"| double | `one` | | | | a `word` |\n{others}"
    assert refreshed(page, records) == f"| double | `one` | 2 s | 50% | bytes | a `word` |\n{others}"
    assert refreshed("| double | `three` | 2 s | 9% | bytes |", records) == "| double | `three` | - | - | wrong |"
    with pytest.raises(BenchError, match="the case double two: no record"):
        refreshed("| double | `two` | | | |", records)
