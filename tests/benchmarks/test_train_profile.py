"""The profile of a training step, on the tiny recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import train_profile


def test_time_that_overlaps_counts_once() -> None:
    assert train_profile.busy([(4, 5), (0, 2), (1, 3), (1, 2), (3, 3.5)]) == pytest.approx(4.5)
    assert train_profile.busy([]) == 0


def test_a_trace_by_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    events = [
        {"cat": "kernel", "name": "a", "ts": 2e6, "dur": 5e5},
        {"cat": "cuda_runtime", "name": "a", "ts": 0, "dur": 1},
        {"cat": "gpu_memset", "name": "b", "ts": 0, "dur": 1e6},
        {"cat": "kernel", "name": "a", "ts": 3e6, "dur": 0},
        {"name": "no kind"},
    ]
    path.write_text(json.dumps({"traceEvents": events}), encoding="utf-8")
    found = train_profile.read_trace(path, train_profile.DEVICE_KINDS)
    assert found == {"a": [(2.0, 2.5), (3.0, 3.0)], "b": [(0.0, 1.0)]}


def test_record_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "profile.json"
    line = [
        "--recipe",
        "tiny",
        "--rows",
        "128",
        "--tokens",
        "128",
        "--top",
        "5",
        "--shown",
        "3",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["train_profile", *line, "--out", str(out)])
    train_profile.main()
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert [run["row_length"] for run in runs] == [128]
    for run in runs:
        seconds = [kernel["seconds"] for kernel in run["kernels"]]
        assert len(seconds) == 5
        assert seconds == sorted(seconds, reverse=True)
        assert 0 < sum(kernel["share"] for kernel in run["kernels"]) <= 1
        assert run["launches"] > 100
        assert 0 < run["busy_seconds"] <= run["profiled_seconds"]
        assert run["share_of_bound"] == pytest.approx(run["bound_seconds"] / run["seconds"])
    assert capsys.readouterr().out.count("%") == 3
