"""Recorded files: their kinds, where and when, and the newest outcome of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.bench.record import BenchError
from octavo.bench.sources import newest, read_sources
from octavo.config.errors import UsageError
from tests.bench.toys import by_length, outcome, put, record, sliced, sources

EARLY, LATE = "2026-11-25T00:00:00+00:00", "2026-11-27T00:00:00+00:00"


def test_kinds_are_told_apart_and_others_left_alone(tmp_path: Path) -> None:
    when = {"date": EARLY, "device": "CPU"}
    found = sources(
        tmp_path, a=record(outcome()), b=by_length(), c=sliced(), d=when | {"drafts": []},
        e=when | {"runs": [{"two_levels": {}}]}, f=when | {"expert_bytes": 1, "decode": {}},
        g=when | {"runs": [{"x": 1}]}, h={"cells": []},
    )  # fmt: skip
    kinds = {source.path.stem: source.kind for source in found}
    assert kinds == {"a": "kernels", "b": "lengths", "c": "slice", "d": "drafts", "e": "levels", "f": "offload"}


def test_records_come_by_date_and_say_where_and_from_which_commit(tmp_path: Path) -> None:
    first, last = sources(tmp_path, a=sliced(date=LATE), b=record(outcome(), date="2026-11-27T00:30:00+01:00"))
    assert (first.path.stem, first.device, first.commit) == ("b", "made up", "0123456789ab")
    assert (last.path.stem, last.device, last.commit) == ("a", "NVIDIA H9", "0123456789ab with changes")
    assert sources(tmp_path, a=by_length(commit=None, date="2026-11-28"))[-1].commit == "unknown"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (by_length(date="yesterday"), "field date is 'yesterday'; it must be an ISO date"),
        ({"lengths": []}, "field date is missing"),
        (record(outcome(times={})), "field cases.0.times.cold.median is missing"),
    ],
)
def test_a_malformed_record_names_file_and_field(content: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="bad.json: ") as caught:
        sources(tmp_path, bad=content)
    assert fault in str(caught.value)


def test_a_folder_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        read_sources(tmp_path / "nowhere")


def test_fields_are_found_or_not(tmp_path: Path) -> None:
    [source] = sources(tmp_path, a=sliced())
    assert source.has("decode", 1, "seconds", "median")
    assert not source.has("decode", 2)
    assert not source.has("main", "x")
    assert source.at("decode", 1, "context", kind=int) == 2**20


def statuses(folder: Path, **files: Any) -> list[tuple[str, str, str, str]]:
    found = newest(read_sources(put(folder, **files)))
    return [(one.source.device, one.case["op"], one.case["name"], one.case["status"]) for one in found]


def test_the_newest_outcome_of_a_case_wins_once_by_device(tmp_path: Path) -> None:
    old = record(outcome(op="z"), outcome("two"), outcome("small", size="tiny", status="right"), date=EARLY)
    new = record(outcome("two", status="wrong", message="error 1"), date=LATE)
    assert statuses(tmp_path, a=new, b=old, c=record(outcome("two"), date=EARLY, device="another")) == [
        ("made up", "double", "two", "wrong"), ("another", "double", "two", "ok"), ("made up", "z", "one", "ok"),
    ]  # fmt: skip


def test_what_was_not_reached_says_nothing_of_a_case(tmp_path: Path) -> None:
    mute = [outcome(status="not reached", message="spent"), outcome("two", status="right")]
    found = statuses(tmp_path, a=record(outcome(), date=EARLY), b=record(*mute, date=LATE))
    assert [(name, status) for _, _, name, status in found] == [("one", "ok"), ("two", "right")]
