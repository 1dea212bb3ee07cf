"""The benchmark of experts on disk: sums over turns, the calibrated machine, and the command on a tiny checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import offload
from benchmarks.random_checkpoint import v4_config, write_random
from octavo.engine.plan import plan


def test_turns_are_summed_and_shares_follow_from_counts() -> None:
    counts = {"hits": 3, "misses": 1, "ahead": 1, "guessed_right": 2, "chosen": 4, "bytes_read": 100,
              "bytes_wasted": 20, "wait_seconds": 0.5, "peak_bytes": 7}  # fmt: skip
    turns = [{"seconds_per_token": s, "tokens_timed": 10} | counts for s in (0.1, 0.3, 0.2)]
    made = offload.summed(turns)
    assert made["tokens_per_second"] == pytest.approx(5.0)
    assert (made["hit_share"], made["guess_share"], made["peak_bytes"]) == (0.75, 0.5, 7)
    assert made["read_bytes_per_token"] == pytest.approx(10.0)
    plain = offload.summed([{"seconds_per_token": 0.5, "tokens_timed": 2}])
    assert plain["tokens_per_second"] == 2.0
    assert "hit_share" not in plain


def test_the_calibrated_machine_has_the_measured_rates() -> None:
    config = v4_config(1_000_000_000)
    machine = offload.machine_of(config, 2048, decode_rate=12.0, read_rate=300.0, disk=1e9)
    made = plan(config, 2048, machine, weights="fp32", offload_experts="2GB", hit_share=1.0, guess_share=1.0).offload
    assert made is not None
    assert made.decode_tokens_per_second == pytest.approx(12.0)
    assert made.prefill_tokens_per_second == pytest.approx(300.0)
    assert machine.disk_bandwidth == 1e9


def test_command_measures_and_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = v4_config(50_000_000, experts=32, hidden=256, inner=128)
    config = config.changed(num_hidden_layers=4, compress_ratios=(0, 0, 4, 128))
    folder, out = write_random(tmp_path / "made", config), tmp_path / "offload.json"
    line = ["offload", "--folder", str(folder), "--shares", "100", "50", "--rounds", "2", "--decode", "4"]
    line += ["--prefill", "128", "--warm", "4", "--threads", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", line)
    offload.main()
    record = json.loads(out.read_text())
    assert {"date", "device", "load_before", "layers", "expert_bytes"} <= set(record)
    for kind in ("decode", "read"):
        assert list(record[kind]) == ["resident", "100%", "50%"]
        assert record[kind]["50%"]["read_bytes_per_token"] > 0
        assert record[kind]["100%"]["plan"]["tokens_per_second"] > 0
        assert "plan" not in record[kind]["resident"]
    half = record["decode"]["50%"]
    assert half["hit_share"] < record["decode"]["100%"]["hit_share"]
    assert half["plan"]["measured_over"] == pytest.approx(half["tokens_per_second"] / half["plan"]["tokens_per_second"])
    printed = capsys.readouterr().out
    assert "experts held" in printed
    assert f"written to {out}" in printed


def test_a_variant_that_differs_ends_the_run(tmp_path: Path) -> None:
    config = v4_config(50_000_000, experts=16, hidden=256, inner=128)
    config = config.changed(num_hidden_layers=4, compress_ratios=(0, 0, 4, 128))
    total = 4 * 16 * offload.expert_bytes(config)
    made = [
        offload.variant(
            write_random(tmp_path / str(seed), config, seed=seed), config, share=1.0, total=total, room=1024
        )
        for seed in (0, 1)
    ]
    import numpy as np

    with pytest.raises(SystemExit, match="other gives other logits than one"):
        offload.check_equal(dict(zip(("one", "other"), made, strict=True)), np.arange(16, 96))
