"""Reading at length: a tiny run writes honest records; bytes and ratios by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.long_read import LAST, decode_bytes, decode_table, measure_decoding, table, with_ratios
from octavo.bench.surroundings import ROOT
from octavo.config.presets import s, xs


def test_a_small_run(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.long_read", "--model", "xs", "--lengths", "2100", "2500", "--decode", "3"]
    line += ["--levels", "2"]
    run = subprocess.run(
        [*line, "--out", str(tmp_path / "r.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert [(r["tokens"], r["index_levels"]) for r in found["lengths"]] == [(2100, 2), (2500, 2)]
    for row in found["lengths"]:
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["seconds"])
        assert row["peak_bytes"] > row["cache_bytes"] > 0
        assert row["decode_bound_share"] > 0
    assert found["lengths"][0]["speed_ratio"] == found["lengths"][0]["decode_ratio"] == 1
    assert "written to" in run.stdout


def test_entries_that_were_never_read_are_decoded_behind() -> None:
    short, long = (measure_decoding("xs", tokens, 2, 3) for tokens in (LAST, LAST + 1024))
    assert long["decode_bytes"] > short["decode_bytes"]
    assert long["decode_seconds"] > 0
    assert "1.00" in decode_table(with_ratios([short, long]))


def test_two_levels_read_fewer_keys() -> None:
    for config in (xs(), s()):
        context, row = 1 << 20, 4 * config.index_head_dim
        two = config.changed(index_levels=2, index_block_tokens=16, index_blocks=64, index_from_tokens=0)
        layers = config.layer_ratios.count(4)
        saved = layers * (row * (context // 4 - 64 * 4) - (config.index_head_dim // 2 + 4) * (context // 16))
        assert decode_bytes(config, context) - decode_bytes(two, context) == saved


def test_ratios_are_to_the_shortest_with_the_same_index() -> None:
    def record(tokens: int, levels: int, speed: float, step: float) -> dict[str, float]:
        return {
            "tokens": tokens, "index_levels": levels, "tokens_per_second": speed, "decode_seconds": step,
            "seconds": 1.0, "last_tokens_per_second": 1.0, "peak_bytes": 2e6, "decode_bound_share": 0.5,
        }  # fmt: skip

    made = with_ratios([
        record(8, 1, 100, 0.002), record(8, 2, 80, 0.004), record(16, 1, 50, 0.008), record(16, 2, 60, 0.005)
    ])  # fmt: skip
    assert [r["speed_ratio"] for r in made] == [1, 1, 0.5, 0.75]
    assert [r["decode_ratio"] for r in made] == [1, 1, 0.25, pytest.approx(0.8)]
    assert "8.00 (0.25)" in table(made)
