"""Saving a model in the official layout: its names, number formats, `config.json`, and an index of shards.

Covers: the choice of formats, splitting of stacked experts, shards of bounded size, a swap that leaves no half folder.
Does not cover: optimiser state, tokenizers and cards (files of others in the folder are kept).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from octavo.config.counts import stored_tensors
from octavo.config.errors import CheckpointError
from octavo.config.model import ModelConfig, QuantizationConfig
from octavo.config.tensors import tensor_specs
from octavo.model.checkpoint import formats, names
from octavo.model.checkpoint.folder import INDEX, SINGLE, previous_folder
from octavo.model.checkpoint.shard import Unit, write_shard

SHARD_BYTES = 14 * 2**20
_HEADER_BYTES = 192  # an upper bound for what one tensor adds to a header


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """How numbers are stored. `dense` False: nothing is quantised. Otherwise dense matrices are FP8, routed experts FP8
    or, with `experts_fp4`, FP4, with `embeddings` the embedding and the head are FP8 too, with `engram_tables` Engram's
    tables. All the rest is BF16, or FP32 with `wide`; what the release keeps in FP32 is always FP32.
    """

    dense: bool = True
    experts_fp4: bool = False
    embeddings: bool = False
    engram_tables: bool = False
    wide: bool = False

    def applied(self, config: ModelConfig) -> ModelConfig:
        """The configuration that describes the files."""
        if not self.dense:
            return config.changed(quantization=None, expert_dtype=None)
        stored = QuantizationConfig(embeddings=self.embeddings, engram_tables=self.engram_tables)
        return config.changed(quantization=stored, expert_dtype="fp4" if self.experts_fp4 else "fp8")

    @classmethod
    def lossless(cls) -> WritePlan:
        """Everything in FP32: what was trained, bit by bit."""
        return cls(dense=False, wide=True)

    @classmethod
    def of(cls, config: ModelConfig) -> WritePlan:
        """The formats that `config` names."""
        stored = config.quantization
        if stored is None:
            return cls(dense=False)
        return cls(
            experts_fp4=config.expert_dtype == "fp4", embeddings=stored.embeddings, engram_tables=stored.engram_tables
        )


def save_checkpoint(
    source: nn.Module | Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    quant: WritePlan,
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write weights (a model, or its state under the model's or official names) to `folder`, replacing weights there.

    The same tensors give the same bytes. Other files in the folder are kept. The new folder is complete on disk before
    it takes the old one's name; after an error (CheckpointError) the old one is as it was.
    """
    state = dict(source.state_dict() if isinstance(source, nn.Module) else source)
    stored = quant.applied(config)
    if config.tie_word_embeddings:
        state.pop("head.weight", None)
    _check(state, stored)
    shards = _pack(_units(state, stored, wide=quant.wide), max_shard_bytes)
    folder = Path(folder).resolve()
    staging = folder.with_name(f".{folder.name}.saving-{os.getpid()}")
    try:
        _recover(folder)
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(f"{folder} is a file; weights need a folder")
        try:
            staging.mkdir(parents=True)
            _write(staging, shards, stored)
            _keep_others(folder, staging)
            _swap(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        kept = "; what was there is unchanged" if folder.exists() else ""
        raise CheckpointError(f"cannot save to {folder}: {error.strerror or error}{kept}") from error


def _check(state: dict[str, Tensor], stored: ModelConfig) -> None:
    """Every tensor must be there, of its shape, and nothing else; formats must suit the shapes."""
    wanted: dict[str, tuple[int, ...]] = {}
    for spec in tensor_specs(stored):
        problem = formats.fits(spec.storage.value, spec.shape)
        if problem is not None:
            raise CheckpointError(f"tensor '{spec.names[0]}' {list(spec.shape)}: {problem}")
        wanted |= dict.fromkeys(spec.names, spec.shape)
    for name, value in state.items():
        if names.is_stacked(name) and value.shape[:1] != (stored.n_routed_experts,):
            has = f"has shape {list(value.shape)}; the config says {stored.n_routed_experts} experts"
            raise CheckpointError(f"cannot save: tensor '{name}' {has}")
    given = {official for name in state for official in names.split_experts(name, stored.n_routed_experts)}
    for name, shape in wanted.items():
        if name not in given:
            raise CheckpointError(f"cannot save: tensor '{name}' is missing")
        have = tuple(_lookup(state, name).shape)
        if have != shape:
            raise CheckpointError(f"cannot save: tensor '{name}' has shape {list(have)}; the config says {list(shape)}")
    extra = sorted(given - set(wanted) - {"engram_map"})
    if extra:
        raise CheckpointError(f"cannot save: tensor '{extra[0]}' is not part of the model that the config describes")


def _lookup(state: dict[str, Tensor], name: str) -> Tensor:
    """A tensor by official name; single experts may come out of a stacked one."""
    if name in state:
        return state[name]
    block, _, rest = name.partition(".experts.")
    expert, part, _ = rest.split(".")
    stacked = state[f"{block}.experts.{part}"]
    return stacked[int(expert)]


def _units(state: dict[str, Tensor], stored: ModelConfig, *, wide: bool) -> list[Unit]:
    """What to write, weights next to their scales, in the order of the specification."""
    table = stored_tensors(stored)
    units = []
    for name, (tag, shape) in table.items():
        if tag == "F8_E8M0":
            continue
        tag = "F32" if wide and tag == "BF16" else tag
        tensors = [(name, tag, shape)]
        if formats.is_quantised(tag):
            tensors.append((names.scale_name(name), *table[names.scale_name(name)]))
        units.append(_unit(state, name, tensors))
    if "engram_map" in state:
        units.append(_unit(state, "engram_map", [("engram_map", "I64", tuple(state["engram_map"].shape))]))
    return units


def _unit(state: dict[str, Tensor], name: str, tensors: list[tuple[str, str, tuple[int, ...]]]) -> Unit:
    tag = tensors[0][1]

    def make() -> tuple[Tensor, ...]:
        value = _lookup(state, name).detach().cpu()
        encoded = formats.encode(value, tag)
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(f"cannot save: tensor '{name}' holds NaN or infinity")
        return encoded

    return Unit(tensors=tuple(tensors), make=make)


def _pack(units: list[Unit], limit: int) -> list[list[Unit]]:
    """Fill shards in order; a unit larger than `limit` gets one of its own."""
    shards: list[list[Unit]] = []
    free = 0
    for unit in units:
        size = unit.nbytes + _HEADER_BYTES * len(unit.tensors)
        if not shards or size > free:
            shards.append([])
            free = limit
        shards[-1].append(unit)
        free -= size
    return shards


def _write(staging: Path, shards: list[list[Unit]], stored: ModelConfig) -> None:
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_shard(staging / file, shard)
        places |= {name: file for unit in shard for name, _, _ in unit.tensors}
    total = sum(unit.nbytes for shard in shards for unit in shard)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    _write_text(staging / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
    _write_text(staging / "config.json", stored.to_json())


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _keep_others(folder: Path, staging: Path) -> None:
    """Copy what is not weights (tokenizer, card, licences) from the old folder."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".safetensors" or path.name in (INDEX, SINGLE, "config.json"):
            continue
        if path.is_dir():
            shutil.copytree(path, staging / path.name, symlinks=True)
        else:
            shutil.copy2(path, staging / path.name, follow_symlinks=False)


def _swap(staging: Path, folder: Path) -> None:
    """Let `staging` take the name of `folder`; if that fails, `folder` keeps it."""
    previous = previous_folder(folder)
    if folder.exists():
        os.rename(folder, previous)
    try:
        os.rename(staging, folder)
    except OSError:
        if previous.exists():
            os.rename(previous, folder)
        raise
    _sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Finish or undo a swap that was interrupted between its two renames."""
    previous = previous_folder(folder)
    if not previous.exists():
        return
    if folder.exists():
        shutil.rmtree(previous)
    else:
        os.rename(previous, folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
