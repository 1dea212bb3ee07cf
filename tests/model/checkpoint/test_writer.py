"""Saving: the official layout and formats, equal bytes, bounded shards, and nothing lost when it fails."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from octavo.config.counts import stored_tensors
from octavo.config.errors import CheckpointError
from octavo.config.model import ModelConfig, QuantizationConfig
from octavo.model.checkpoint import WritePlan, load_weights, open_folder, save_checkpoint
from octavo.model.checkpoint.folder import INDEX, previous_folder
from octavo.model.transformer import Transformer
from tests.support.checkpoints import official_tensors, stored_config
from tests.support.tiny import build_model, random_tensors, tiny_config, tiny_engram

PLANS = {
    "lossless": WritePlan.lossless(),
    "bf16": WritePlan(dense=False),
    "fp8": WritePlan(),
    "fp4": WritePlan(experts_fp4=True),
    "fp8-embeddings": WritePlan(embeddings=True),
    "fp8-engram": WritePlan(experts_fp4=True, embeddings=True, engram_tables=True),
    "fp4-wide": WritePlan(experts_fp4=True, wide=True),
}


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def load(folder: Path) -> Transformer:
    """The model of a folder, in FP32."""
    with torch.device("meta"):
        model = Transformer(ModelConfig.from_json(folder))
    load_weights(model, folder, torch.float32)
    return model


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_files_are_exactly_the_official_layout(tmp_path: Path, plan: WritePlan) -> None:
    config = stored_config(compress_ratios=(0, 4, 0), num_hidden_layers=2, num_nextn_predict_layers=1)
    save_checkpoint(random_tensors(config, 0), config, tmp_path / "m", plan, max_shard_bytes=300_000)
    stored = ModelConfig.from_json(tmp_path / "m")
    assert stored == plan.applied(config)
    found = {}
    for path in sorted((tmp_path / "m").glob("*.safetensors")):
        assert path.stat().st_size <= 300_000
        with safe_open(path, "pt") as file:  # the library of the format must read it too
            for name in file.keys():  # noqa: SIM118 - not a dict
                piece = file.get_slice(name)
                found[name] = (piece.get_dtype(), tuple(piece.get_shape()))
    expected = stored_tensors(stored)
    if plan.wide:
        expected = {name: ("F32" if tag == "BF16" else tag, shape) for name, (tag, shape) in expected.items()}
    assert found == expected
    index = json.loads((tmp_path / "m" / INDEX).read_text())
    assert set(index["weight_map"]) == set(expected)
    assert index["metadata"]["total_size"] == open_folder(tmp_path / "m").nbytes
    assert len(set(index["weight_map"].values())) > 2


def test_quantised_tensors_are_those_of_an_independent_checkpoint(tmp_path: Path) -> None:
    config = stored_config()
    save_checkpoint(random_tensors(config, 0), config, tmp_path / "m", WritePlan.of(config))
    wanted = official_tensors(config, 0)
    with safe_open(next((tmp_path / "m").glob("*.safetensors")), "pt") as file:
        for name, value in wanted.items():
            stored = file.get_tensor(name)
            assert stored.dtype == value.dtype
            assert torch.equal(stored.view(-1).view(torch.uint8), value.contiguous().view(-1).view(torch.uint8)), name


def test_a_lossless_save_gives_the_model_back(tmp_path: Path) -> None:
    config = tiny_config(
        compress_ratios=(0, 4, 128, 0), num_nextn_predict_layers=1,
        engram=tiny_engram("v1", (1,), compressed_vocab_size=300),
    )  # fmt: skip
    ids = [token % 300 for token in range(config.vocab_size)]
    model = build_model(config, random_tensors(config, 1), compressed_ids=ids)
    save_checkpoint(model, config, tmp_path / "m", WritePlan.lossless())
    back = load(tmp_path / "m").state_dict()
    assert set(back) == set(model.state_dict())
    assert all(torch.equal(value, back[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("plan", [WritePlan(embeddings=True), WritePlan(experts_fp4=True)], ids=["fp8", "fp4"])
def test_saving_what_was_loaded_changes_nothing(tmp_path: Path, plan: WritePlan) -> None:
    config = stored_config()
    save_checkpoint(random_tensors(config, 2), config, tmp_path / "a", plan)
    first = load(tmp_path / "a")
    save_checkpoint(first, first.config, tmp_path / "b", plan)
    again = load(tmp_path / "b").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    config = stored_config()
    tensors = random_tensors(config, 3)
    save_checkpoint(tensors, config, tmp_path / "a", WritePlan())
    save_checkpoint(dict(reversed(tensors.items())), config, tmp_path / "b", WritePlan())
    save_checkpoint(build_model(config, tensors), config, tmp_path / "c", WritePlan())
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_a_tied_head_is_not_stored(tmp_path: Path) -> None:
    config = tiny_config(tie_word_embeddings=True)
    save_checkpoint(build_model(config, random_tensors(config, 4)), config, tmp_path / "m", WritePlan.lossless())
    assert "head.weight" not in open_folder(tmp_path / "m").entries
    model = load(tmp_path / "m")
    assert model.head.weight is model.embed.weight


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path: Path) -> None:
    config = tiny_config()
    save_checkpoint(random_tensors(config, 4), config, tmp_path / "m", WritePlan.lossless(), max_shard_bytes=1000)
    load(tmp_path / "m")
    assert len(open_folder(tmp_path / "m").files) > 50


def test_plans_describe_configs() -> None:
    config = stored_config(quantization=QuantizationConfig(embeddings=True, engram_tables=True))
    assert WritePlan.of(config) == WritePlan(experts_fp4=True, embeddings=True, engram_tables=True)
    assert WritePlan.of(config).applied(config) == config
    assert WritePlan.of(tiny_config()) == WritePlan(dense=False)


# Replacing what was there


def test_weights_are_replaced_and_other_files_kept(tmp_path: Path) -> None:
    config, folder = tiny_config(), tmp_path / "m"
    save_checkpoint(random_tensors(config, 5), config, folder, WritePlan.lossless(), max_shard_bytes=20_000)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "notes").mkdir()
    (folder / "notes" / "card.md").write_text("card")
    (folder / "model.safetensors").write_text("weights of another layout")
    assert len(list(folder.glob("*.safetensors"))) > 5
    save_checkpoint(random_tensors(config, 6), config, folder, WritePlan.lossless())
    assert sorted(files(folder)) == [
        "config.json", "model-00001-of-00001.safetensors", INDEX, "notes/card.md", "tokenizer.json"
    ]  # fmt: skip
    assert torch.equal(load(folder).embed.weight, random_tensors(config, 6)["embed.weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.fixture
def small_disk() -> Callable[[int], None]:
    """Limits the size of every file that this process writes, as a full disk would; lifted afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path, small_disk: Callable[[int], None]) -> None:
    config, folder = tiny_config(), tmp_path / "m"
    save_checkpoint(random_tensors(config, 5), config, folder, WritePlan.lossless())
    (folder / "tokenizer.json").write_text("{}")
    before = files(folder)
    small_disk(100_000)
    with pytest.raises(CheckpointError, match=r"cannot save to .*m: File too large; what was there is unchanged"):
        save_checkpoint(random_tensors(config, 6), config, folder, WritePlan.lossless())
    assert files(folder) == before
    with pytest.raises(CheckpointError, match=r"cannot save to .*new: File too large$"):
        save_checkpoint(random_tensors(config, 6), config, tmp_path / "new", WritePlan.lossless())
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_swap_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = tiny_config(), tmp_path / "m"
    save_checkpoint(random_tensors(config, 5), config, folder, WritePlan.lossless())
    before, rename = files(folder), os.rename

    def fails_for_new(old: Path, new: Path) -> None:
        if ".saving-" in str(old):
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fails_for_new)
    with pytest.raises(CheckpointError, match="No space left on device; what was there is unchanged"):
        save_checkpoint(random_tensors(config, 6), config, folder, WritePlan.lossless())
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_kill_between_the_two_renames_is_mended_by_the_next_save(tmp_path: Path) -> None:
    config, folder = tiny_config(), tmp_path / "m"
    save_checkpoint(random_tensors(config, 5), config, folder, WritePlan.lossless())
    (folder / "tokenizer.json").write_text("{}")
    os.rename(folder, previous_folder(folder))
    with pytest.raises(CheckpointError, match="an interrupted save left the previous one"):
        open_folder(folder)
    save_checkpoint(random_tensors(config, 6), config, folder, WritePlan.lossless())
    assert (folder / "tokenizer.json").read_text() == "{}"
    assert torch.equal(load(folder).embed.weight, random_tensors(config, 6)["embed.weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# What cannot be saved


def changed(name: str, value: Tensor | None) -> dict[str, Tensor]:
    """Tiny tensors with one replaced, or left out."""
    tensors = random_tensors(tiny_config(), 0)
    return {k: v for k, v in (tensors | {name: value}).items() if v is not None}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (changed("norm.weight", None), r"tensor 'norm\.weight' is missing"),
        (changed("layers.1.ffn.experts.5.w2.weight", None), r"tensor 'layers\.1.*experts\.5\.w2\.weight' is missing"),
        (changed("norm.weight", torch.zeros(3)), r"'norm\.weight' has shape \[3\]; the config says \[32\]"),
        (changed("layers.1.ffn.experts.w1", torch.zeros(5, 24, 32)), r"\[5, 24, 32\]; the config says 6 experts"),
        (changed("else.weight", torch.zeros(3)), r"'else\.weight' is not part of the model"),
        (changed("norm.weight", torch.full((32,), torch.nan)), r"'norm\.weight' holds NaN or infinity"),
    ],
)
def test_a_state_that_is_not_the_model_is_refused(tmp_path: Path, tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tensors, tiny_config(), tmp_path / "m", WritePlan.lossless())
    assert list(tmp_path.iterdir()) == []


def test_formats_that_do_not_suit_the_shapes_are_refused(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(CheckpointError, match=r"experts\.0\.w2\.weight' \[32, 24\]: FP4 .* multiple of 32, not 24"):
        save_checkpoint(random_tensors(config, 0), config, tmp_path / "m", WritePlan(experts_fp4=True))


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(CheckpointError, match="m is a file; weights need a folder"):
        save_checkpoint(random_tensors(tiny_config(), 0), tiny_config(), tmp_path / "m", WritePlan.lossless())
    assert (tmp_path / "m").read_text() == "mine"
