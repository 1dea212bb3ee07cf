"""Looking into a model folder: every figure against its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.config.counts import stored_tensors
from octavo.config.errors import OctavoError
from octavo.engine.inspection import inspect_model
from tests.support.tiny import tiny_config, tiny_engram, write_tiny_model


def test_model_folder(tmp_path: Path) -> None:
    config = tiny_config(engram=tiny_engram())
    folder = write_tiny_model(tmp_path / "model", config, 3)
    found = inspect_model(folder)
    assert found["tensors"] == len(stored_tensors(config))
    assert found["files"] == ["model.safetensors"]
    assert 0 < found["bytes"] < (folder / "model.safetensors").stat().st_size
    assert found["engram_layers"] == [1, 3]
    assert found["names"] == "official"
    assert found["tokenizer"]["vocabulary"] <= config.vocab_size


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_tiny_model(tmp_path / "model", tiny_config(), 3)
    (folder / name).unlink()
    with pytest.raises(OctavoError, match=name.replace(".", r"\.")):
        inspect_model(folder)
