"""The benchmark of drafts: its arithmetic, and a run with a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import speculation
from tests.support.tiny import tiny_config, write_tiny_model


def test_ratios_are_medians_over_pairs_and_rounds_are_counted_in_steps() -> None:
    pairs = [[2.0, 1.0, 1.0, 2.0], [4.0, 1.0, 1.0, 4.0], [3.0, 1.0, 1.0, 3.0]]
    found = speculation.figures(2, 31, pairs, steps=10, drafted=20, accepted=20)
    assert found["speed_ratio"] == pytest.approx(3.0)
    assert found["speed_ratio_least_most"] == [2.0, 4.0]
    assert found["tokens_per_round"] == pytest.approx(3.0)
    assert found["acceptance"] == 1.0
    # a round took 0.1 s, a plain step 0.1 s: each accepted draft is won
    assert found["round_over_step"] == pytest.approx(1.0)
    assert found["break_even"] == pytest.approx(0.0)
    assert found["plain_tokens_per_second"] == pytest.approx(10.0)
    assert found["drafted_tokens_per_second"] == pytest.approx(30.0)


def test_command_compares_equal_tokens_and_writes_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(max_position_embeddings=4096, num_nextn_predict_layers=1)
    folder, out = write_tiny_model(tmp_path / "tiny", config, 1), tmp_path / "results" / "speculation.json"
    line = ["speculation", "--model", str(folder), "--draft", "1", "3", "--context", "256", "--tokens", "8"]
    monkeypatch.setattr(sys, "argv", [*line, "--pairs", "1", "--temperature", "0.7", "--out", str(out)])
    speculation.main()
    record = json.loads(out.read_text())
    assert {"date", "commit", "device", "versions", "model", "threads", "context"} <= set(record)
    assert [run["draft"] for run in record["drafts"]] == [1, 3]
    for run in record["drafts"]:
        assert run["tokens_per_round"] * run["rounds"] == pytest.approx(7)
        assert run["rounds"] + run["accepted"] == 7
        assert run["drafted"] >= run["rounds"] - 1
        assert run["break_even"] == pytest.approx(run["round_over_step"] - 1)
        assert len(run["seconds"][0]) == 4
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_other_tokens_are_an_end_without_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(max_position_embeddings=4096, num_nextn_predict_layers=1)
    folder, out = write_tiny_model(tmp_path / "tiny", config, 1), tmp_path / "speculation.json"
    made = iter(range(99))
    monkeypatch.setattr(speculation, "make", lambda *_: ([next(made)], 1.0, None))
    line = ["speculation", "--model", str(folder), "--draft", "2", "--context", "256", "--tokens", "4"]
    monkeypatch.setattr(sys, "argv", [*line, "--out", str(out)])
    with pytest.raises(SystemExit, match="2 drafts gave other tokens than none"):
        speculation.main()
    assert not out.exists()


def test_random_weights_leave_no_matrix_at_zero() -> None:
    model = speculation.random_runner(1024).model
    assert all(bool(weight.any()) for weight in model.parameters() if weight.dim() > 1)
