"""The run's log: lines, rounding, what a resumed run keeps, a torn last line."""

from __future__ import annotations

import json
from pathlib import Path

from octavo.train.log import RunLog


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_are_json_with_rounded_numbers(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "deep" / "log.jsonl", from_step=0)
    line = log.write(step=9, stage="dense", loss=1.23456789, rate=1e-7 / 3)
    assert json.loads(line) == {"step": 9, "stage": "dense", "loss": 1.2346, "rate": 3.3333e-08}
    assert (tmp_path / "deep" / "log.jsonl").read_text() == line + "\n"


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    RunLog(path, from_step=0).write(step=9)
    RunLog(path, from_step=0)
    assert path.read_text() == ""


def test_a_resumed_run_drops_the_lines_it_writes_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = RunLog(path, from_step=0)
    for step in (9, 19, 29, 39):
        first.write(step=step)
    RunLog(path, from_step=30)
    assert steps(path) == [9, 19, 29]
    again = RunLog(path, from_step=29)  # 29 steps are done, those numbered 0 to 28
    assert steps(path) == [9, 19]
    again.write(step=29)
    assert steps(path) == [9, 19, 29]


def test_a_line_torn_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    RunLog(path, from_step=0).write(step=9)
    with open(path, "a") as file:
        file.write('{"step": 19, "lo')
    RunLog(path, from_step=30)
    assert steps(path) == [9]
