"""From names to a run: a tiny model over a small pack, the weights that are kept, and the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from octavo.model.checkpoint import load_weights
from octavo.model.transformer import Transformer
from octavo.text.compress_map import compress_map
from octavo.train.optim import OptimConfig
from octavo.train.reinforce import settings as table
from octavo.train.reinforce.__main__ import main
from octavo.train.reinforce.loop import Options
from octavo.train.reinforce.prompts import Asked
from octavo.train.reinforce.rollout import Drawing
from octavo.train.reinforce.settings import Settings
from octavo.train.reinforce.start import _keep, policy, start
from octavo.train.run import release
from tests.support.lesson_pack import lesson_pack
from tests.support.small_text import SmallText
from tests.support.training import fresh, small_config

SMALL = Settings(
    name="small", asked=Asked(program=0.5, recall=0.3, row=0.2, row_length=256), steps=2, prompts=3, group=2,
    drawing=Drawing(max_tokens=6), rows=4, dev=6, least=0.0, optim=OptimConfig(matrix_lr=1e-3),
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def weights(world: SmallText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random weights for the small tokenizer."""
    small, size = compress_map(world.tokenizer)
    config = small_config(vocab_size=world.tokenizer.vocab_size)
    assert config.engram is not None
    config = config.changed(engram=replace(config.engram, compressed_vocab_size=size))
    model, _ = fresh(config)
    model.get_buffer("engram_map").copy_(torch.from_numpy(small))
    folder = tmp_path_factory.mktemp("weights")
    release(model.state_dict(), config, world.tokenizer_file.parent, folder)
    return folder


def test_a_run_goes_through_and_keeps_what_it_began_with(world: SmallText, weights: Path, tmp_path: Path) -> None:
    seen = []
    result = start(
        SMALL, weights=weights, pack=world.pack_folder, options=Options(out=tmp_path / "run"), kept=tmp_path / "kept",
        show=seen.append,
    )  # fmt: skip
    assert (result.steps, result.finished, len(seen)) == (2, True, 2)
    assert result.verdict is not None
    assert not result.verdict.keep  # random weights solve nothing, before and after
    assert set(result.verdict.kinds) == {"program", "recall", "row"}
    assert {name for line in seen for name in line["outcomes"]} <= {
        f"{kind} {end}" for kind in ("program", "recall", "row")
        for end in ("right", "wrong", "error", "timeout", "memory", "output")
    }  # fmt: skip
    for file in weights.iterdir():
        assert (tmp_path / "kept" / file.name).read_bytes() == file.read_bytes()


def test_weights_that_are_better_are_kept_in_the_same_formats(weights: Path, tmp_path: Path) -> None:
    model = policy(weights, "cpu")
    assert model.embed.weight.dtype == torch.float32
    with torch.no_grad():
        model.head.weight.fill_(0.25)
    _keep(model, weights, tmp_path)
    again = Transformer(model.config)
    load_weights(again, tmp_path, torch.float32)
    assert (again.head.weight == 0.25).all()
    assert torch.equal(again.get_buffer("engram_map"), model.get_buffer("engram_map"))
    assert (tmp_path / "tokenizer.json").read_bytes() == (weights / "tokenizer.json").read_bytes()


def test_the_command(
    world: SmallText, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(table.SETTINGS, "small", lambda: SMALL)
    given = ["small", "--weights", str(weights), "--pack", str(world.pack_folder), "--out", str(tmp_path / "run")]
    assert main([*given, "--steps", "1"]) == 0
    out, told = capsys.readouterr()
    said = json.loads(out)
    assert (said["steps"], said["finished"], said["verdict"]["keep"]) == (1, True, False)
    assert told.startswith("step 0  reward ")
    assert main(["huge", *given[1:]]) == 1
    assert capsys.readouterr().err.startswith("error: settings 'huge' are not known")
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    (tmp_path / "run" / "checkpoint").mkdir()
    assert main(given) == 1
    assert "checkpoint.json" in capsys.readouterr().err
