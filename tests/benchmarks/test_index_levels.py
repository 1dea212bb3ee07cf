"""The benchmark of two-level indexes: shares of picks by number and by weight, and a run on the shipped model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import index_levels


def test_shares_count_picks_and_weigh_them() -> None:
    exact = torch.tensor([[3, 7, 9, -1], [1, 2, 5, 6]])
    coarse = torch.tensor([[9, 3, 4, -1], [1, 2, 5, 6]])
    scores = torch.zeros(2, 4)
    number, mass = index_levels.shares(exact, coarse, scores)
    assert number == pytest.approx(6 / 7)
    assert mass == pytest.approx((2 / 3 + 1) / 2)
    heavy = scores.index_fill(1, torch.tensor([1]), 50.0)  # the pick that was missed has all the weight
    assert index_levels.shares(exact, coarse, heavy)[1] == pytest.approx(0.5, abs=1e-3)


def test_a_run_reports_overlap_recall_and_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "levels.json"
    monkeypatch.setattr(sys, "argv", ["index_levels", "--lengths", "4K", "--count", "4", "--out", str(out)])
    index_levels.main()
    [run] = json.loads(out.read_text())["runs"]
    assert 0.2 < run["overlap"] < 1.0, "at 4,096 tokens 64 blocks of 16 leave most of the document out"
    assert run["overlap"] <= run["mass"] + 0.2
    assert run["compared"] >= 3
    assert run["exact"]["asked"] == run["two_levels"]["asked"] == 4
    assert "of the picks" in capsys.readouterr().out
