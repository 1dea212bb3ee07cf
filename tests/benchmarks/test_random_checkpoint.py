"""Random checkpoints: formats and size of the release, and weights that a model can be run with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import random_checkpoint
from benchmarks.random_checkpoint import expert_bytes, v4_config, write_random
from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.config.counts import stored_tensors
from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.engine.runner import Runner
from octavo.model.checkpoint import load_weights, open_folder
from octavo.model.transformer import Transformer


def small() -> ModelConfig:
    return v4_config(50_000_000, experts=8, hidden=256, inner=128).changed(
        num_hidden_layers=4, compress_ratios=(0, 0, 4, 128)
    )


@pytest.mark.parametrize("size", [1_000_000_000, 2_000_000_000])
def test_the_size_is_about_what_was_asked_for(size: int) -> None:
    config = v4_config(size)
    each = config.n_routed_experts * expert_bytes(config)
    from octavo.config.counts import count

    assert abs(count(config).bytes - size) < each
    assert expert_bytes(config) == 3 * 2048 * 1024 * 17 // 32
    assert config.compress_ratios[:4] == (0, 0, 4, 128)


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(UsageError, match="size is 1,000 bytes; 4 layers take"):
        v4_config(1000)


def test_files_are_as_the_release_has_them_and_activations_stay_in_bounds(tmp_path: Path) -> None:
    config = small()
    folder = write_random(tmp_path / "made", config, seed=1, skew=0.1)
    stored = open_folder(folder)
    assert {name: (entry.tag, entry.shape) for name, entry in stored.entries.items()} == stored_tensors(config)
    assert len(stored.files) == config.num_hidden_layers + 1
    with torch.device("meta"):
        model = Transformer(ModelConfig.from_json(folder))
    load_weights(model, folder, torch.float32)
    runner = Runner(model.eval().requires_grad_(False), PagePool(CacheLayout(config), capacity_tokens=512))
    logits = runner.whole_logits(torch.arange(16, 96).numpy())
    assert logits.isfinite().all()
    assert 0.1 < logits.std() < 10
    bias = model.get_buffer("layers.3.ffn.gate.bias")
    assert 0.02 < bias.std() < 0.3
    assert write_random(tmp_path / "again", config, seed=1, skew=0.1)
    for path in stored.files:
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(random_checkpoint, "v4_config", lambda size: small())
    monkeypatch.setattr(sys, "argv", ["random_checkpoint", str(tmp_path / "made"), "--size", "50MB"])
    random_checkpoint.main()
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'made'}: 4 layers, ")
    assert (tmp_path / "made" / "config.json").is_file()
