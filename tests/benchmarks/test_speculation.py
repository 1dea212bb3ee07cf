"""The benchmark of drafts: its arithmetic, and a run with a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import speculation
from octavo.config.model import DraftKind
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


def test_a_slice_for_a_gpu_has_an_mtp_block_and_layers_of_all_kinds() -> None:
    config = speculation.slice_config()
    assert (config.mtp_kind, config.layer_ratios, config.hidden_size) == (DraftKind.MTP, (0, 4, 128, 4), 4096)


def test_parts_of_a_round_are_timed_through_the_fused_kernels() -> None:
    pytest.importorskip("triton")
    from octavo.engine.gpu.drafts import GpuDrafter
    from tests.support.gpu_world import FIELDS

    small = {"compress_ratios": (4,), "num_hidden_layers": 1, "num_nextn_predict_layers": 1}
    config = tiny_config(**(FIELDS | small))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    runner = speculation.gpu_runner(config, "tiny", 2048, device)
    assert isinstance(runner.drafter(), GpuDrafter)
    assert runner.name == "tiny with random weights"
    found = speculation.parts(runner, runner.new_state(), np.array([20, 21]), 1, rounds=1)
    assert set(found) == {"draft_seconds", "verify_seconds"}
    assert min(found.values()) > 0


def test_gains_are_tokens_a_round_over_its_cost() -> None:
    record = {"draft": 1, "round_over_step": 1.25, "draft_seconds": 1e-4, "verify_seconds": 1.5e-3}
    assert speculation.gains([record]).splitlines()[1].split("  ")[-1] == "0: 0.80, 0.5: 1.20, 1: 1.60"


def test_a_model_is_not_taken_to_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["speculation", "--device", "cuda", "--model", "octavo-xs"])
    with pytest.raises(SystemExit):
        speculation.main()
    assert "--device cuda measures random weights" in capsys.readouterr().err
