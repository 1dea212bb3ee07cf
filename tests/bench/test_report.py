"""Figures and tables from recorded files: what is drawn, what is missing, what is malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.record import BenchError
from octavo.bench.report import cache_bars, report, share_bars, speed_lines
from octavo.config.errors import UsageError
from octavo.engine.plan import plan
from tests.bench.toys import outcome, record

pytest.importorskip("matplotlib")

SPEED = {"model": "xs", "device": "CPU", "lengths": [{"tokens": 1024, "tokens_per_second": 9.5}]}


def put(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_every_record_is_drawn_and_others_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path, kernels=record(outcome()), read=SPEED, step=SPEED | {"measures": "decoding"}, other={"cells": []})
    found = report(tmp_path, tmp_path / "figures")
    names = {path.name for path in found.written}
    stems = ("kernels", "speed-reading", "speed-decoding", "cache-flash", "cache-xs")
    assert names == {"kernels.md", *(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg"))}
    assert all(path.stat().st_size > 0 for path in found.written)
    assert found.missing == ()
    assert "| double | one | 2 s |" in (tmp_path / "figures" / "kernels.md").read_text(encoding="utf-8")


def test_what_has_no_record_is_named(tmp_path: Path) -> None:
    found = report(put(tmp_path, checks=record(outcome(status="right"))), tmp_path / "figures")
    bare, none = found.missing
    assert "checks.json: no case has a share of its bound" in bare
    assert "no record of speed by length" in none
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no record of kernels" in report(empty, tmp_path / "figures").missing[0]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (record(outcome(times={})), "field cases.0.times.cold.median is missing"),
        (SPEED | {"lengths": []}, "field lengths is empty"),
        (SPEED | {"lengths": [{"tokens": 8}]}, "field lengths.0.tokens_per_second is missing"),
        (SPEED | {"lengths": [{"tokens": "8", "tokens_per_second": 1}]}, "field lengths.0.tokens is '8'"),
        ({"lengths": SPEED["lengths"], "device": "CPU"}, "field model is missing"),
        (SPEED | {"measures": 3}, "field measures is 3"),
    ],
)
def test_a_malformed_record_writes_nothing(content: Any, fault: str, tmp_path: Path) -> None:
    put(tmp_path, a=record(outcome()), bad=content)
    with pytest.raises(BenchError) as caught:
        report(tmp_path, tmp_path / "figures")
    assert f"bad.json: {fault}" in str(caught.value)
    assert not (tmp_path / "figures").exists()


def test_a_folder_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        report(tmp_path / "nowhere", tmp_path)


def test_shares_are_those_of_timed_cases_operations_together() -> None:
    none = {"seconds": None, "share": None, "by": None, "message": "no rate"}
    cases = [outcome(op="z"), outcome("w", status="wrong", message=""), outcome("n", bound=none), outcome(op="a")]
    assert [(bar.label, bar.value, bar.note, bar.group) for bar in share_bars(cases)] == [
        ("a one", 0.5, "50%, 2 s", "a"), ("z one", 0.5, "50%, 2 s", "z"),
    ]  # fmt: skip


def test_two_records_of_one_line_are_an_error() -> None:
    with pytest.raises(BenchError, match="b.json: another record already holds reading of xs, CPU"):
        speed_lines([(Path("a.json"), SPEED), (Path("b.json"), SPEED)])


def test_bytes_of_cache_are_those_of_the_plan() -> None:
    ours, *others = cache_bars("flash", "h100")
    planned = plan("flash", "1M", "h100")
    assert ours.value == planned.history_bytes_per_token
    assert [(bar.label, bar.value) for bar in others] == [(c.name, c.bytes_per_token) for c in planned.comparisons]
    assert others[0].note == "48,068 B, 13.7 times as many"
