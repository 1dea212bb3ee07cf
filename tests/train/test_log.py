"""The run's log: lines, rounding, what a resumed run keeps, a torn last line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from octavo.train.log import RunLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_json_with_rounded_numbers(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "deep" / "log.jsonl")
    line = log.write({"step": 9, "stage": "dense", "loss": 1.23456789, "rate": 1e-7 / 3, "churn": [2 / 3, 1]})
    expected = {"step": 9, "stage": "dense", "loss": 1.2346, "rate": 3.3333e-08, "churn": [0.66667, 1]}
    assert json.loads(line) == expected
    assert (tmp_path / "deep" / "log.jsonl").read_text() == line + "\n"


def test_a_log_is_left_alone_until_the_run_says_how_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    RunLog(path).write({"step": 9})
    log = RunLog(path)
    assert lines(path) == [{"step": 9}]
    log.empty()
    assert path.read_text() == ""


def test_a_resumed_run_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = RunLog(path)
    first.write({"step": 9})
    first.write({"event": "spike", "step": 12})
    tensors, values = first.state()
    first.write({"step": 9, "again": True})
    with open(path, "a") as file:
        file.write('{"step": 19, "lo')
    again = RunLog(path)
    again.restore(tensors, json.loads(json.dumps(values)))
    assert lines(path) == [{"step": 9}, {"event": "spike", "step": 12}]
    again.write({"step": 19})
    assert lines(path)[-1] == {"step": 19}


def test_a_log_that_was_taken_away_begins_anew(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    assert log.state()[1] == {"bytes": 0}
    log.restore({}, {"bytes": 100})
    log.write({"step": 29})
    assert lines(tmp_path / "log.jsonl") == [{"step": 29}]
