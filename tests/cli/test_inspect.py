"""`octavo inspect`: models by name and folder, documents, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main
from octavo.config.counts import count
from octavo.config.model import ModelConfig
from octavo.text.tokenizer import Tokenizer


def test_model_by_name_and_folder(story: Path, shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "octavo-xs", "--json"]) == 0
    by_name = json.loads(capsys.readouterr().out)
    assert main(["inspect", str(shelf / "octavo-xs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == by_name
    config = ModelConfig.from_json(shelf / "octavo-xs")
    assert by_name["kind"] == "model"
    assert by_name["parameters"] == count(config).total == sum(by_name["parameters_by_part"].values())
    assert by_name["layers"] == ["window", "csa", "hca", "csa", "hca"]
    assert ModelConfig.from_json(by_name["config"]) == config
    assert by_name["bytes"] == sum(by_name["bytes_by_type"].values())
    assert by_name["tokenizer"]["fingerprint"] == Tokenizer.load(shelf / "octavo-xs").fingerprint


def test_page_for_people(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "octavo-xs"]) == 0
    out = capsys.readouterr().out
    assert "window, csa, hca, csa, hca" in out
    assert "model.safetensors" in out
    assert "config" not in {line.split()[0] for line in out.splitlines()}


def test_missing_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert main(["inspect", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("octavo: error: ")
    assert str(folder) in err
