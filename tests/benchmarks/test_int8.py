"""The benchmark of INT8 weights: turns, ratios, bits per byte by hand, and the command on a tiny model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import int8
from octavo.engine.llm import load
from tests.support.tiny import tiny_config, write_tiny_model
from tests.support.tiny_llm import STORY, tiny_llm


def test_every_second_turn_runs_the_other_way_round() -> None:
    order: list[str] = []
    seconds = int8.in_turns({name: (lambda name=name: order.append(name)) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert [len(own) for own in seconds.values()] == [3, 3]


def test_ratios_are_of_best_and_median() -> None:
    found = int8.over({"fp32": [4.0, 8.0, 6.0], "int8": [2.0, 3.0, 12.0]}, "fp32")
    assert found == {"int8": {"best": 2.0, "median": 2.0}}


def test_products_are_timed_beside_those_of_torch() -> None:
    found = int8.products(32, 16, 3, 2)
    assert {"octavo", "product alone", "_weight_int8pack_mm"} <= set(found["over"])
    assert all(ratio["best"] > 0 for ratio in found["over"].values())
    header, line = int8.lines_of_products([found])
    assert line.split()[:4] == ["32", "->", "16", "3"]


def test_bits_per_byte_count_every_token_but_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny_llm(tmp_path), np.arange(20, 90)
    monkeypatch.setattr(int8, "CHUNK", 32)
    logits = model.logits(ids)[:-1].double().log_softmax(-1)
    expected = -float(logits.gather(1, torch.from_numpy(ids[1:]).unsqueeze(1)).sum()) / math.log(2) / 100
    assert int8.bits_per_byte(model, ids, 100) == pytest.approx(expected, rel=1e-5)
    assert model.pool.allocator.free == model.pool.allocator.total
    with pytest.raises(SystemExit, match="900 needed"):
        int8.ids_of(model, "short", 900)


def test_command_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=4096), 1)
    text, out = tmp_path / "held-out.txt", tmp_path / "int8.json"
    text.write_text(STORY * 20)
    monkeypatch.setattr(int8, "SHAPES", ((32, 16),))
    monkeypatch.setattr(int8, "ROWS", (2,))
    monkeypatch.setattr(int8, "random_runner", lambda capacity: load(folder).runner)
    line = ["int8", "--text", str(text), "--tokens", "600", "--prefill", "1024", "--decode", "2", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", [*line, "--seeds", "--model", str(folder), "--out", str(out)])
    int8.main()
    record = json.loads(out.read_text())
    assert {"date", "device", "products", "models", "quality", "recall", "int8_units"} <= set(record)
    sizes = record["models"][str(folder)]["weight_bytes"]
    assert sizes["int8"] < sizes["fp32"]
    quality = record["quality"]
    assert quality["ratio"] == pytest.approx(quality["bits_per_byte"]["int8"] / quality["bits_per_byte"]["fp32"])
    assert quality["bytes"] < len(STORY.encode()) * 20
    printed = capsys.readouterr().out
    assert f"bits per byte: {quality['bits_per_byte']['fp32']:.4f} in fp32" in printed
    assert "facts, 1,024 tokens, int8: 0 of 0" in printed
