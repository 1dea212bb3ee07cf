"""Recall with parts changed: what is lost and won against the model as it is, and a run of a shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import recall_controls


def test_ways_are_set_beside_the_model_as_it_is() -> None:
    right = {"as it is": [1, 1, 0, 0], "random picks": [0, 1, 1, 0]}
    cell = {"kind": "fact", "length": 8192, "right": right}
    assert recall_controls.line(cell) == "| fact | 8,192 | 4 | 2 (0.15-0.85) | 2 (-1 +1) |"
    assert recall_controls.table({"cells": [cell]}).splitlines()[0] == (
        "| kind | tokens | asked | as it is (95 %) | random picks |"
    )


def test_choices_have_a_line_of_their_own() -> None:
    right = {"as it is": [1, 0], "HCA off": [0, 0]}
    chosen = {"chance": 0.25, "right": {"as it is": [1, 1], "HCA off": [1, 0]}}
    cell = {"kind": "work", "length": 8192, "right": right, "chosen": chosen}
    assert [row.split(" | ")[0] for row in recall_controls.rows(cell)] == [
        "| work", "| work, likeliest title (chance 0.25)"
    ]  # fmt: skip
    assert recall_controls.table({"cells": [cell]}).splitlines()[-1].endswith("| 2 | 2 (0.34-1.00) | 1 (-1 +0) |")
    assert {"ordering", "counting", "work"} <= set(recall_controls.KINDS)


def test_a_run_changes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "controls.json"
    line = ["--model", "octavo-xs", "--kinds", "fact", "--lengths", "4K", "--count", "8", "--topk", "16"]
    recall_controls.main([*line, "--out", str(out)])
    record = json.loads(out.read_text("utf-8"))
    [cell] = record["cells"]
    levels = {"index_levels": 2, "index_block_tokens": 4, "index_blocks": 1024, "index_from_tokens": 0}
    assert record["index of two levels"] == levels, "with the first token, not where these lengths end"
    right = {name: sum(answers) for name, answers in cell["right"].items()}
    assert list(right) == ["as it is", "random picks", "HCA off", "index of two levels", "16 picks"]
    assert right["as it is"] >= 6
    assert right["random picks"] < right["as it is"], "picks at random find nothing"
    assert right["index of two levels"] >= 4
    assert all(seconds > 0 for seconds in cell["seconds"].values())
    assert "| fact | 4,096 | 8 |" in capsys.readouterr().out
