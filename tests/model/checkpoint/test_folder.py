"""A folder of shards: index and single file, and everything that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from octavo.config.errors import CheckpointError
from octavo.model.checkpoint.folder import open_folder
from tests.support.checkpoints import INDEX, official_tensors, stored_config, write_folder


def edit_index(folder: Path, **places: str | None) -> None:
    """Change (None: drop) entries of the weight map."""
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"] = {k: v for k, v in (index["weight_map"] | places).items() if v is not None}
    path.write_text(json.dumps(index))


def small(folder: Path) -> Path:
    """Two shards with two tensors each."""
    config = stored_config()
    tensors = {name: torch.zeros(2) for name in ("embed.weight", "head.weight", "norm.weight", "hc_head_base")}
    return write_folder(folder, config, tensors, shards=2)


def test_one_file_and_several_hold_the_same(tmp_path: Path) -> None:
    config = stored_config()
    tensors = official_tensors(config)
    one = open_folder(write_folder(tmp_path / "one", config, tensors))
    many = open_folder(write_folder(tmp_path / "many", config, tensors, shards=5))
    assert set(one.entries) == set(many.entries) == set(tensors)
    assert one.nbytes == many.nbytes == sum(value.nbytes for value in tensors.values())
    assert (len(one.files), len(many.files), one.is_official) == (1, 5, True)


def test_a_missing_shard_is_named_with_a_tensor(tmp_path: Path) -> None:
    folder = small(tmp_path / "m")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"missing shard .*model-00002-of-00002\.safetensors.* tensor 'h"):
        open_folder(folder)


def test_index_and_files_must_agree(tmp_path: Path) -> None:
    folder = small(tmp_path / "m")
    edit_index(folder, **{"embed.weight": "model-00002-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=r"tensor 'embed\.weight' is not in .*model-00002"):
        open_folder(folder)
    edit_index(folder, **{"embed.weight": None})
    with pytest.raises(CheckpointError, match=r"tensor 'embed\.weight' in .*model-00001.* is not listed"):
        open_folder(folder)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "", "sub/x"])
def test_an_index_must_not_point_outside(tmp_path: Path, file: str) -> None:
    folder = small(tmp_path / "m")
    edit_index(folder, **{"embed.weight": file})
    with pytest.raises(CheckpointError, match=r"tensor 'embed\.weight' is placed in .* not a file of this folder"):
        open_folder(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}', "\x00"])
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    folder = small(tmp_path / "m")
    (folder / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: damaged index"):
        open_folder(folder)


def test_one_tensor_under_two_spellings_is_refused(tmp_path: Path) -> None:
    twice = {"embed.weight": torch.zeros(1), "model.embed_tokens.weight": torch.zeros(1)}
    save_file(twice, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'embed\.weight' is stored twice: .*'model\.embed_tokens\.weight'"):
        open_folder(tmp_path)


def test_a_folder_without_weights_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"gone is not a folder$"):
        open_folder(tmp_path / "gone")
    (tmp_path / ".gone.previous").mkdir()
    with pytest.raises(CheckpointError, match=r"an interrupted save left the previous one in .*\.gone\.previous"):
        open_folder(tmp_path / "gone")
