"""Matrices that stay in their file: the values of a loaded model, and clear errors for files that change."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config.errors import CheckpointError
from octavo.config.model import ModelConfig
from octavo.model.checkpoint import Shards, StoredMatrix, load_weights
from octavo.model.checkpoint.shard import Entry
from octavo.model.transformer import Transformer
from tests.support.checkpoints import official_tensors, stored_config, write_folder

NAME = "layers.1.ffn.experts.w3"


def left(folder: Path, config: ModelConfig, dtype: torch.dtype = torch.float32) -> tuple[StoredMatrix, ...]:
    with torch.device("meta"):
        model = Transformer(config)
    return load_weights(model, folder, dtype, stays={NAME}).left[NAME]


def loaded(folder: Path, config: ModelConfig, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with torch.device("meta"):
        model = Transformer(config)
    load_weights(model, folder, dtype)
    return model.get_parameter(NAME).detach()


def a_folder(tmp_path: Path, **fields: Any) -> tuple[Path, ModelConfig]:
    config = stored_config(**fields)
    return write_folder(tmp_path / "model", config, official_tensors(config, 1), shards=2), config


FORMATS: list[dict[str, Any]] = [{}, {"expert_dtype": "fp8"}, {"quantization": None, "expert_dtype": None}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("fields", FORMATS, ids=["fp4", "fp8", "bf16"])
def test_values_are_those_of_a_loaded_model(tmp_path: Path, fields: dict[str, Any], dtype: torch.dtype) -> None:
    folder, config = a_folder(tmp_path, **fields)
    matrices, expected = left(folder, config, dtype), loaded(folder, config, dtype)
    shards = Shards({matrix.entry.path for matrix in matrices} | {m.scale.path for m in matrices if m.scale})
    assert len(matrices) == config.n_routed_experts
    for matrix, value in zip(matrices, expected, strict=True):
        raw = matrix.read(shards)
        assert raw.nbytes == matrix.nbytes
        assert torch.equal(raw.unpack(torch.empty_like(value)), value)
        rows = matrix.read(shards, slice(70, 72)).unpack(torch.empty_like(value[:2]))
        assert torch.equal(rows, value[70:72])


@pytest.mark.parametrize("quantised", [False, True])
def test_halves_of_joined_matrices_are_found(tmp_path: Path, quantised: bool) -> None:
    config = stored_config(**({"expert_dtype": "fp8"} if quantised else {"quantization": None, "expert_dtype": None}))
    tensors = official_tensors(config, 1)
    stem, X = "layers.1.ffn.experts", config.n_routed_experts
    joined = {name: value for name, value in tensors.items() if not name.startswith(stem)}
    if quantised:  # tiles span the border of gate and up, so the joined matrix has a scale of its own
        from octavo.kernels import quant

        made = [quant.fp8_quantize_blocks(torch.randn(2 * 96, 160)) for _ in range(X)]
        joined["model.layers.1.mlp.experts.gate_up_proj"] = torch.stack([q for q, _ in made])
        scales = torch.stack([s for _, s in made]).view(torch.float8_e8m0fnu)
        joined["model.layers.1.mlp.experts.gate_up_proj_scale_inv"] = scales
        for kind, suffix in ((".weight", ""), (".scale", "_scale_inv")):
            down = torch.stack([tensors[f"{stem}.{e}.w2{kind}"].view(torch.uint8) for e in range(X)])
            down = down.view(torch.float8_e4m3fn if kind == ".weight" else torch.float8_e8m0fnu)
            joined[f"model.layers.1.mlp.experts.down_proj{suffix}"] = down
    else:
        both = [torch.cat((tensors[f"{stem}.{e}.w1.weight"], tensors[f"{stem}.{e}.w3.weight"])) for e in range(X)]
        joined["model.layers.1.mlp.experts.gate_up_proj"] = torch.stack(both)
        joined["model.layers.1.mlp.experts.down_proj"] = torch.stack(
            [tensors[f"{stem}.{e}.w2.weight"] for e in range(X)]
        )
    folder = write_folder(tmp_path / "model", config, joined)
    matrices, expected = left(folder, config), loaded(folder, config)
    shards = Shards({matrices[0].entry.path})
    for matrix, value in zip(matrices, expected, strict=True):
        assert torch.equal(matrix.read(shards).unpack(torch.empty_like(value)), value)


def test_a_stay_is_checked_as_what_is_loaded(tmp_path: Path) -> None:
    config = stored_config()
    tensors = official_tensors(config, 1)
    del tensors["layers.1.ffn.experts.2.w3.scale"]
    folder = write_folder(tmp_path / "model", config, tensors)
    with pytest.raises(CheckpointError, match=r"missing tensor 'layers\.1\.ffn\.experts\.2\.w3\.scale'"):
        left(folder, config)


@pytest.mark.parametrize("harm", ["gone", "short", "other", "touched"])
def test_a_file_that_changes_is_named_with_its_tensor(tmp_path: Path, harm: str) -> None:
    folder, config = a_folder(tmp_path)
    matrix = left(folder, config)[1]
    shards = Shards([matrix.entry.path, *([matrix.scale.path] if matrix.scale else [])])
    path = matrix.entry.path
    matrix.read(shards)
    if harm == "gone":
        path.unlink()
    elif harm == "short":
        os.truncate(path, matrix.entry.offset + 1)
    elif harm == "other":
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
    else:
        os.utime(path, ns=(1, 1))
    with pytest.raises(CheckpointError, match=rf"tensor '{matrix.entry.name}': .*{path.name}"):
        matrix.read(shards)


def test_a_file_that_shrinks_between_the_look_and_the_read_is_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = a_folder(tmp_path)
    matrix = left(folder, config)[0]
    shards = Shards([matrix.entry.path, *([matrix.scale.path] if matrix.scale else [])])
    look = os.fstat

    def shrink_after(descriptor: int) -> os.stat_result:
        found = look(descriptor)
        os.truncate(matrix.entry.path, matrix.entry.offset + 5)
        return found

    monkeypatch.setattr("octavo.model.checkpoint.matrix.os.fstat", shrink_after)
    with pytest.raises(CheckpointError, match=rf"tensor '{matrix.entry.name}': .* is truncated, it ends at byte"):
        matrix.read(shards)


@pytest.mark.parametrize(
    ("fields", "leaf", "byte", "named", "message"),
    [
        ({}, "scale", 0xFF, "scale", "holds a scale that is NaN, infinite or negative"),
        ({}, "scale", 0xFE, "weight", "holds a value that is NaN, infinite or too large"),
        ({"expert_dtype": "fp8"}, "weight", 0x7F, "weight", "holds a value that is NaN"),
    ],
)
def test_what_is_no_number_is_refused_as_in_loading(
    tmp_path: Path, fields: dict[str, Any], leaf: str, byte: int, named: str, message: str
) -> None:
    config = stored_config(**fields)
    tensors = official_tensors(config, 1)
    stem = "layers.1.ffn.experts.0.w3"
    tensors[f"{stem}.weight"].view(torch.uint8)[0, :] = 0x7E  # large codes
    tensors[f"{stem}.{leaf}"].view(torch.uint8)[0, 0] = byte
    folder = write_folder(tmp_path / "model", config, tensors)
    matrix = left(folder, config)[0]
    with pytest.raises(CheckpointError, match=f"tensor '{stem}.{named}' in .* {message}"):
        matrix.read(Shards([matrix.entry.path]))
    with pytest.raises(CheckpointError, match=f"tensor '{stem}.{named}'"):
        loaded(folder, config)


def test_forgetting_what_was_read_changes_nothing(tmp_path: Path) -> None:
    folder, config = a_folder(tmp_path)
    matrix = left(folder, config)[0]
    paths = [matrix.entry.path, *([matrix.scale.path] if matrix.scale else [])]
    kept, forgotten = (matrix.read(Shards(paths, cached=cached)) for cached in (True, False))
    assert torch.equal(kept.rows, forgotten.rows)
    with pytest.raises(CheckpointError, match="cannot read .*absent"):
        Shards([tmp_path / "absent"])


@pytest.fixture
def large(tmp_path: Path) -> tuple[Entry, bytes]:
    """A tensor of 300,000 bytes behind 1,003 others, and its bytes."""
    values = torch.randint(0, 256, (301_003,), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    path = tmp_path / "large.bin"
    path.write_bytes(values.numpy().tobytes())
    entry = Entry(name="large", tag="U8", shape=(300_000,), path=path, offset=1003, nbytes=300_000)
    return entry, values.numpy().tobytes()[1003:]


@pytest.mark.parametrize(("start", "size"), [(0, 300_000), (0, 65_536), (3093, 65_536), (234_463, 65_537), (5, 70_000)])
def test_direct_reads_give_the_bytes_between_pages(large: tuple[Entry, bytes], start: int, size: int) -> None:
    entry, expected = large
    for cached in (False, True):
        (got,) = Shards([entry.path], cached=cached).read([(entry, start, size)])
        assert got.numpy().tobytes() == expected[start : start + size]


def test_direct_reads_are_asked_for_and_done_without_where_there_are_none(
    large: tuple[Entry, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, expected = large
    shards, opened, real = Shards([entry.path]), [], os.open

    def no_direct(path: Path, flags: int) -> int:
        opened.append(bool(flags & os.O_DIRECT))
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags)

    monkeypatch.setattr("octavo.model.checkpoint.matrix.os.open", no_direct)
    (got,) = shards.read([(entry, 7, 80_000)])
    assert got.numpy().tobytes() == expected[7:80_007]
    shards.read([(entry, 7, 100)])
    assert opened == [True, False, False]


def test_a_direct_read_that_meets_the_end_is_truncated(
    large: tuple[Entry, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, _ = large
    shards = Shards([entry.path])
    look = os.fstat

    def shrink_after(descriptor: int) -> os.stat_result:
        found = look(descriptor)
        os.truncate(entry.path, 150_000)
        return found

    monkeypatch.setattr("octavo.model.checkpoint.matrix.os.fstat", shrink_after)
    with pytest.raises(CheckpointError, match=r"tensor 'large': .* is truncated, it ends at byte 150000"):
        shards.read([(entry, 0, 300_000)])
