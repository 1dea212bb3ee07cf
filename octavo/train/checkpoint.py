"""Training checkpoints: everything a run needs to go on exactly.

Covers: parameters, buffers, optimiser state, random states, step, configuration and what other parts of a run keep,
written atomically as safetensors shards with checksums and read back with every damage named. Does not cover: the
release format of weights (`octavo.model.checkpoint`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.snapshots import live_state, random_states, set_random_states

_SHARD_BYTES = 15 * 2**20


class Part(Protocol):
    """A part of a run with a state of its own: tensors, and values that JSON can hold."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise CheckpointError if these values are not of a run like this one."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None: ...


def save(
    folder: Path,
    model: Transformer,
    optimizer: Optimizer,
    *,
    step: int,
    recipe: str,
    parts: Mapping[str, Part] | None = None,
) -> None:
    """Write `folder` anew: a temporary folder beside it is filled, synced and renamed over it.

    `parts` by name are saved with it. Raises CheckpointError where it cannot be written (a full disk); what `folder`
    held is then still there.
    """
    work = folder.with_name(folder.name + ".part")
    try:
        _write(work, model, optimizer, step=step, recipe=recipe, parts=parts or {})
        replace_folder(folder, work)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise unwritten(folder, step, error) from error


def unwritten(folder: Path, step: int, why: object) -> CheckpointError:
    """The error for a checkpoint that cannot be written."""
    kept = "the one before is kept" if found_folder(folder).exists() else "there was none before"
    return CheckpointError(f"{folder}: the checkpoint of step {step} cannot be written; {kept}: {why}")


def _write(
    work: Path, model: Transformer, optimizer: Optimizer, *, step: int, recipe: str, parts: Mapping[str, Part]
) -> None:
    rest, values = rest_of(parts)
    tensors = live_state(model, optimizer) | rest
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    files = []
    for i, shard in enumerate(_shards(tensors)):
        path = work / f"state-{i:03d}.safetensors"
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in shard.items()}, path)
        files.append(path)
    write_meta(work, files, model, optimizer, step=step, recipe=recipe, values=values)


def write_meta(
    work: Path, files: Sequence[Path], model: Transformer, optimizer: Optimizer, *, step: int, recipe: str,
    values: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write `checkpoint.json` beside the finished `files`, with their checksums, and put all of `work` on disk."""
    meta = {
        "step": step,
        "recipe": recipe,
        "optimizer_steps": optimizer.step_count,
        "config": model.config.to_dict(),
        "parts": values,
        "shards": [{"file": path.name, "sha256": _sum(path)} for path in files],
    }
    (work / "checkpoint.json").write_text(json.dumps(meta, indent=1))
    for path in (*files, work / "checkpoint.json", work):
        sync(path)


def replace_folder(folder: Path, work: Path) -> None:
    """Put the finished `work` in the place of `folder`."""
    old = folder.with_name(folder.name + ".old")
    if folder.exists():  # otherwise `old` may be the only checkpoint there is
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    work.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load(
    folder: Path,
    model: Transformer,
    optimizer: Optimizer,
    *,
    recipe: str,
    parts: Mapping[str, Part] | None = None,
) -> int:
    """Restore a run into `model`, `optimizer` and `parts`; returns the number of steps done.

    Raises CheckpointError that names the file, the field or the tensor at fault, before anything is changed.
    """
    parts, folder = parts or {}, found_folder(folder)
    meta = read_meta(folder, model, recipe=recipe, parts=parts)
    tensors = read_shards(folder, meta["shards"])
    if missing := sorted(live_state(model, optimizer).keys() - tensors.keys()):
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing")
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    with torch.no_grad():
        for name, state in optimizer.state.items():
            for kind, value in state.items():
                value.copy_(tensors[f"optim.{kind}.{name}"])
    optimizer.step_count = meta["optimizer_steps"]
    restore_rest(tensors, meta, parts)
    return meta["step"]


def found_folder(folder: Path) -> Path:
    """`folder`, or where a kill between the two renames of `save` left it."""
    old = folder.with_name(folder.name + ".old")
    return old if not folder.exists() and old.exists() else folder


def read_meta(folder: Path, model: Transformer, *, recipe: str, parts: Mapping[str, Part]) -> dict[str, Any]:
    """What `checkpoint.json` says. Raises CheckpointError unless it is of this recipe, model and these parts."""
    try:
        meta = json.loads((folder / "checkpoint.json").read_text())
        config, kept = [meta[k] for k in ("step", "optimizer_steps", "shards", "config", "parts")][3:]
    except KeyError as error:
        raise CheckpointError(f"{folder}/checkpoint.json: field {error} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/checkpoint.json: {error}") from error
    if meta.get("recipe") != recipe:
        raise CheckpointError(f"{folder}: checkpoint of recipe {meta.get('recipe')!r}, asked to resume {recipe!r}")
    wanted = json.loads(json.dumps(model.config.to_dict()))
    if differing := sorted(k for k in {*config, *wanted} if config.get(k) != wanted.get(k)):
        k = differing[0]
        raise CheckpointError(
            f"{folder}: config field {k} is {config.get(k)!r}, the recipe's model has {wanted.get(k)!r}"
        )
    for name, part in parts.items():
        if name not in kept:
            raise CheckpointError(f"{folder}/checkpoint.json: part {name!r} is missing")
        part.check(kept[name])
    return meta


def restore_rest(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
    """Set random states and parts from what `rest_of` gave and `checkpoint.json` says."""
    set_random_states(dict(tensors))
    for name, part in parts.items():
        head = f"part.{name}."
        own = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
        part.restore(own, meta["parts"][name])


def rest_of(parts: Mapping[str, Part]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a checkpoint beside model and optimiser, by name; and the parts' values."""
    tensors, values = random_states(), {}
    for name, part in parts.items():
        own, values[name] = part.state()
        tensors |= {f"part.{name}.{key}": value for key, value in own.items()}
    return tensors, values


def read_shards(folder: Path, shards: list[dict[str, str]]) -> dict[str, Tensor]:
    """All tensors of the shards, each checked against its checksum."""
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors.update(load_file(checked(folder, shard)))
    return tensors


def checked(folder: Path, shard: Mapping[str, str]) -> Path:
    """The file of a shard. Raises CheckpointError if it is missing or its checksum differs."""
    path = folder / shard["file"]
    if not path.exists():
        raise CheckpointError(f"{path}: shard is missing")
    if _sum(path) != shard["sha256"]:
        raise CheckpointError(f"{path}: checksum differs, the shard is damaged")
    return path


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Ask the system to put a file or a folder on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name in sorted(tensors):
        if size and size + tensors[name].nbytes > _SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensors[name]
        size += tensors[name].nbytes
    return shards
