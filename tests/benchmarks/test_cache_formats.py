"""The benchmark of entries in fewer bits: bits token by token, differences by hand, and the command on a tiny model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cache_formats, int8
from benchmarks.int8 import bits_per_byte
from tests.support.tiny import tiny_config, write_tiny_model
from tests.support.tiny_llm import STORY, tiny_llm


def test_bits_of_tokens_sum_up_to_bits_per_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny_llm(tmp_path), np.arange(20, 90)
    whole = bits_per_byte(model, ids, 100)
    monkeypatch.setattr(int8, "CHUNK", 32)
    bits = cache_formats.token_bits(model, ids)
    assert bits.shape == (69,)
    assert bits.sum() / 100 == pytest.approx(whole, rel=1e-5)
    assert model.pool.allocator.free == model.pool.allocator.total


def test_differences_have_the_error_of_their_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_formats, "STRETCHES", 2)
    found = cache_formats.difference(np.array([2.0, 2.0, 5.0, 5.0]), np.ones(4), 5)
    assert found["bits_per_byte"] == pytest.approx(10 / 5)  # stretches take 2 and 8 bits more
    assert found["standard_error"] == pytest.approx(math.sqrt(2 * 18) / 5)
    assert math.isnan(cache_formats.difference(np.ones(1), np.ones(1), 5)["standard_error"])


def test_command_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_model(tmp_path / "tiny", tiny_config(max_position_embeddings=4096), 1)
    text, out = tmp_path / "held-out.txt", tmp_path / "cache_formats.json"
    text.write_text(STORY * 20)
    line = ["cache_formats", "--text", str(text), "--tokens", "600", "--lengths", "1K", "--seeds", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*line, "--model", str(folder)])
    cache_formats.main()
    record = json.loads(out.read_text())
    assert [record["formats"][name]["window"] for name in ("fp32", "fp8", "fp4")] == ["fp32", "fp8", "fp8"]
    found = record["texts"]["held-out.txt"]
    assert found["more_than_first"]["fp32"]["bits_per_byte"] == 0
    loss = found["bits_per_byte"]
    assert found["more_than_first"]["fp4"]["bits_per_byte"] == pytest.approx(loss["fp4"] - loss["fp32"], abs=1e-9)
    assert loss["fp4"] != loss["fp8"] != loss["fp32"]
    printed = capsys.readouterr().out
    assert f"entries in fp4: {loss['fp4']:.4f} bits per byte" in printed
    assert "facts, 1,024 tokens, entries in fp4: 0 of 0" in printed
