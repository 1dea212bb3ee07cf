"""The benchmark of reading: exact lengths, bytes that were allocated, and the table, on a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import read_lengths
from octavo.engine.locate import locate
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny import tiny_config, write_tiny_model


def test_text_makes_a_document_of_exactly_that_many_tokens() -> None:
    tokenizer = Tokenizer.load(locate("octavo-xs"))
    for tokens in (700, 8192):
        assert len(tokenizer.encode(read_lengths.text_of(tokenizer, tokens))) == tokens - 1
    with pytest.raises(SystemExit, match="4,000,000 were asked for"):
        read_lengths.text_of(tokenizer, 4_000_000)


def test_ratios_are_to_the_shortest_length_and_to_the_plan() -> None:
    figures = {"seconds": 2.0, "peak_bytes": 5e8, "file_bytes": 7e6, "open_seconds": 0.004}
    records = [
        figures | {
            "tokens": tokens, "tokens_per_second": speed, "last_tokens_per_second": last,
            "cache_bytes": 990, "planned_cache_bytes": 1000,
        }
        for tokens, speed, last in ((32768, 1000.0, 500.0), (8192, 2000.0, 2000.0))
    ]  # fmt: skip
    found = read_lengths.with_ratios(records)
    assert [(r["speed_ratio"], r["last_speed_ratio"], r["cache_ratio"]) for r in found] == [
        (0.5, 0.25, 0.99), (1.0, 1.0, 0.99),
    ]  # fmt: skip
    header, first, _ = read_lengths.table(found).splitlines()
    titles = "tokens seconds tokens/s last 8,192 peak MB cache MB of plan file MB open ms"
    assert " ".join(header.split()) == titles
    assert " ".join(first.split()) == "32,768 2.0 1,000 (0.50) 500 (0.25) 500 0.00 0.9900 7.00 4.0"


def test_command_measures_in_processes_and_writes_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=4096), 1)
    out = tmp_path / "results" / "read_lengths.json"
    line = ["read_lengths", "--lengths", "1K", "--model", str(folder), "--opens", "3", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*line, "--out", str(out)])
    read_lengths.main()
    record = json.loads(out.read_text())
    assert {"date", "commit", "device", "versions", "model", "threads"} <= set(record)
    (found,) = record["lengths"]
    assert (found["tokens"], found["last_tokens"], found["speed_ratio"]) == (1024, 1024, 1.0)
    assert found["tokens_per_second"] == pytest.approx(1024 / found["seconds"])
    assert 0.9 < found["cache_ratio"] <= 1.0
    assert found["file_bytes"] > found["cache_bytes"] / 2
    assert 0 < found["open_seconds"] <= found["open_seconds_worst"]
    assert found["peak_bytes"] >= found["peak_bytes_before_reading"] > found["cache_bytes"]
    _, row, written = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "1,024"
    assert written == f"written to {out}"
