"""The benchmark of a training step, on the tiny recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import train_step


def test_shares_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "step.json"
    line = ["--recipe", "tiny", "--rows", "128", "256", "--tokens", "512", "--steps", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_step", *line, "--out", str(out)])
    train_step.main()
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [run["row_length"] for run in record["runs"]] == [128, 256]
    for run in record["runs"]:
        assert len(run["all_seconds"]) == 2
        assert run["tokens_per_second"] == pytest.approx(512 / run["seconds"])
        least = 6 * run["active_parameters"] * 512 / run["product_operations_per_second"]
        assert run["share_of_bound"] == pytest.approx(least / run["seconds"])
        assert 0 < run["share_of_bound"] < 1
    assert capsys.readouterr().out.count("of the bound") == 2
