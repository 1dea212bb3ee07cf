"""Misses taken apart within a time: a run of a shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import anatomy_lengths


def test_a_run_takes_misses_apart_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["octavo-xs", "--kinds", "fact", "--lengths", "2K", "--count", "6", "--seconds", "0"]
    anatomy_lengths.main([*line, "--out", str(tmp_path)])
    record = json.loads((tmp_path / "anatomy.json").read_text("utf-8"))
    [cell] = record["cells"]
    assert (record["about"]["model"], record["about"]["dtype"]) == ("octavo-xs", "float32")
    assert cell["sifted"]["asked"] == 6
    assert len(cell["questions"]) == 1, "no time for more than one"
    wrong = not cell["questions"][0]["tried"]["none"]["right"]
    assert wrong == (cell["sifted"]["right"] < 6), "a miss where there is one"
    told = capsys.readouterr().out
    assert f"fact at 2,048 tokens: {cell['sifted']['right']} of 6 right; 1 taken apart" in told
    assert "Taken apart: 1, misses first." in (tmp_path / "anatomy.md").read_text("utf-8")
