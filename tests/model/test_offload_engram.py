"""Engram's tables in their files: the same rows, fetched before they are asked for, and clear errors."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.config.errors import CheckpointError
from octavo.config.model import QuantizationConfig
from octavo.engine.runner import Runner
from octavo.kernels import quant
from octavo.model.checkpoint import load_weights
from octavo.model.offload import load_offloaded
from octavo.model.offload_engram import MappedTable, table_parameters
from octavo.model.transformer import Transformer
from tests.support.checkpoints import official_tensors, stored_config, write_folder
from tests.support.tiny import tiny_engram

IDS = torch.randint(0, 150, (70,), generator=torch.Generator().manual_seed(2)).numpy()


def pair(
    tmp_path: Path, *, dtype: torch.dtype = torch.float32, variant: str = "v41", fp8: bool = False
) -> tuple[Runner, Runner, Path]:  # fmt: skip
    stored = QuantizationConfig(engram_tables=fp8)
    config = stored_config(engram=tiny_engram(variant, layers=(0, 2)), quantization=stored)
    folder = write_folder(tmp_path / "model", config, official_tensors(config, 3), shards=3)
    models = []
    for _ in range(2):
        with torch.device("meta"):
            models.append(Transformer(config))
    load_weights(models[0], folder, dtype)
    assert load_offloaded(models[1], folder, dtype, budget_bytes=None, engram=True) is None
    runners = [
        Runner(model.eval().requires_grad_(False), PagePool(CacheLayout(config), capacity_tokens=1024), chunk=16)
        for model in models
    ]
    return runners[0], runners[1], folder


@pytest.mark.parametrize(("variant", "fp8"), [("v1", False), ("v41", False), ("v41", True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_the_resident_model(
    tmp_path: Path, dtype: torch.dtype, variant: str, fp8: bool
) -> None:
    resident, offloaded, _ = pair(tmp_path, dtype=dtype, variant=variant, fp8=fp8)
    states = [runner.new_state() for runner in (resident, offloaded)]
    for cut in (IDS[:20], IDS[20:21], IDS[21:24], IDS[24:70]):
        a, b = (r.step(cut, s, all_rows=True).logits for r, s in zip((resident, offloaded), states, strict=True))
        assert torch.equal(a, b)
    for runner, state in zip((resident, offloaded), states, strict=True):
        runner.read(IDS, state)
    assert torch.equal(*(r.step(IDS[:1], s).logits for r, s in zip((resident, offloaded), states, strict=True)))
    assert torch.equal(*(runner.whole_logits(IDS) for runner in (resident, offloaded)))
    names = {name for name in resident.model.state_dict() if name.endswith("table.weight")}
    assert names == table_parameters(resident.model)
    assert not names & set(offloaded.model.state_dict())


def test_rows_of_all_layers_are_asked_for_before_the_first_layer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, offloaded, _ = pair(tmp_path)
    seen: list[Any] = []
    rows = MappedTable.rows

    def noted(self: MappedTable, ids: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(ids.shape), threading.current_thread().name.split("_")[0]))
        return rows(self, ids)

    monkeypatch.setattr(MappedTable, "rows", noted)
    offloaded.model.embed.register_forward_hook(lambda *_: seen.append("embedded"))
    offloaded.step(IDS[:5], offloaded.new_state())
    assert sorted(map(str, seen)) == sorted(map(str, [((5, 6), "octavo-engram")] * 2 + ["embedded"]))


def test_a_sample_is_that_of_the_table(tmp_path: Path) -> None:
    resident, offloaded, _ = pair(tmp_path)
    value = resident.model.get_parameter("layers.2.engram.table.weight").reshape(-1)
    stored = offloaded.model.layers[2].engram.stored["table.weight"]  # type: ignore[union-attr,operator,index]
    assert torch.equal(stored.sample(37), value[::37])
    assert stored.shape.numel() == len(value)


def test_a_file_that_was_cut_short_is_an_error_and_no_crash(tmp_path: Path) -> None:
    _, offloaded, folder = pair(tmp_path)
    state = offloaded.new_state()
    offloaded.step(IDS[:5], state)
    for path in folder.glob("*.safetensors"):
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match=r"tensor 'layers\.0\.engram\.table\.weight': .* was changed since"):
        offloaded.step(IDS[5:9], state)


def test_values_that_are_no_numbers_are_refused_when_they_are_read(tmp_path: Path) -> None:
    config = stored_config(engram=tiny_engram(layers=(1,)))
    tensors = official_tensors(config, 3)
    tensors["layers.1.engram.table.weight"].fill_(float("nan"))
    folder = write_folder(tmp_path / "model", config, tensors)
    with torch.device("meta"):
        model = Transformer(config)
    load_offloaded(model, folder, torch.float32, budget_bytes=None, engram=True)
    runner = Runner(model.eval().requires_grad_(False), PagePool(CacheLayout(config), capacity_tokens=256))
    with pytest.raises(CheckpointError, match=r"tensor 'layers\.1\.engram\.table\.weight' in .* holds a value that is"):
        runner.step(IDS[:5], runner.new_state())


def test_tables_in_fp4_are_refused(tmp_path: Path) -> None:
    config = stored_config(engram=tiny_engram(layers=(1,), head_dim=32))
    tensors = official_tensors(config, 3)
    packed, scale = quant.fp4_pack(tensors["layers.1.engram.table.weight"].float())
    tensors["layers.1.engram.table.weight"] = packed
    tensors["layers.1.engram.table.scale"] = scale.view(torch.float8_e8m0fnu)
    folder = write_folder(tmp_path / "model", config, tensors)
    with torch.device("meta"):
        model = Transformer(config)
    with pytest.raises(
        CheckpointError, match=r"table\.weight' in .* has type I8; a table that stays on disk must"
    ):
        load_offloaded(model, folder, torch.float32, budget_bytes=None, engram=True)
