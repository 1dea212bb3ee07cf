"""Export of trained weights: formats, sizes, what stays in the folder, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.model.checkpoint import WritePlan, load_weights
from octavo.model.transformer import Transformer
from octavo.train.export import export, main
from tests.support.checkpoints import official_tensors, stored_config, write_folder
from tests.support.tiny import tiny_engram

ALL = ["--dense", "--experts", "fp4", "--embeddings", "--engram-tables"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = stored_config(engram=tiny_engram(layers=(0, 2)), quantization=None, expert_dtype=None)
    folder = write_folder(tmp_path / "trained", config, official_tensors(config, 3))
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    return folder


def loaded(folder: Path) -> Transformer:
    with torch.device("meta"):
        model = Transformer(ModelConfig.from_json(folder))
    load_weights(model, folder, torch.float32)
    return model


def test_every_format_is_as_asked_and_values_are_near(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main([str(trained), str(out), *ALL])
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert capsys.readouterr().out == f"{out}: {size / 1e6:.1f} MB of weights\n"
    config = ModelConfig.from_json(out)
    plan = WritePlan(experts_fp4=True, embeddings=True, engram_tables=True)
    assert WritePlan.of(config) == plan
    assert size < 0.62 * sum(path.stat().st_size for path in trained.glob("*.safetensors"))
    before, after = loaded(trained).state_dict(), loaded(out).state_dict()
    for name, value in before.items():
        if value.is_floating_point():
            error = (after[name] - value).norm() / value.norm().clamp_min(1e-9)
            limit = 0.15 if ".experts." in name else 0.04
            assert error <= limit, name
            rounded = "norm" not in name and value.dim() > 1 and ("table" in name or "experts" in name)
            assert not rounded or error > 0, name


def test_what_was_in_the_folder_stays(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(trained, out, WritePlan(dense=False))
    assert json.loads((out / "generation_config.json").read_text()) == {"quote": True}
    assert (out / "tokenizer.json").read_text() == "{}"
    (out / "generation_config.json").write_text('{"quote": false}')
    (out / "README.md").write_text("card")
    export(trained, out, WritePlan())
    assert json.loads((out / "generation_config.json").read_text()) == {"quote": False}
    assert (out / "README.md").read_text() == "card"


def test_refusals(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="is also where the weights come from"):
        export(trained, trained / ".." / trained.name, WritePlan())
    with pytest.raises(SystemExit):
        main([str(trained), str(tmp_path / "out"), "--experts", "fp4"])
    assert "need --dense" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="nowhere"):
        main([str(tmp_path / "nowhere"), str(tmp_path / "out")])
