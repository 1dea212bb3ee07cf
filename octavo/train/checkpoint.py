"""Training checkpoints: everything a run needs to go on exactly.

Covers: parameters, buffers, optimiser state, step, configuration, written atomically as safetensors shards with
checksums and read back with every damage named. Does not cover: the release format of weights
(`octavo.model.checkpoint`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.config.errors import CheckpointError
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer

_SHARD_BYTES = 15 * 2**20


def save(folder: Path, model: Transformer, optimizer: Optimizer, *, step: int, recipe: str) -> None:
    """Write `folder` anew: a temporary folder beside it is filled, synced and renamed over it."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, state in optimizer.state.items():
        tensors.update({f"optim.{kind}.{name}": value for kind, value in state.items()})
    work = folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shards = []
    for i, shard in enumerate(_shards(tensors)):
        path = work / f"state-{i:03d}.safetensors"
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in shard.items()}, path)
        _sync(path)
        shards.append({"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    meta = {
        "step": step,
        "recipe": recipe,
        "optimizer_steps": optimizer.step_count,
        "config": model.config.to_dict(),
        "shards": shards,
    }
    (work / "checkpoint.json").write_text(json.dumps(meta, indent=1))
    _sync(work / "checkpoint.json")
    _sync(work)
    old = folder.with_name(folder.name + ".old")
    if folder.exists():  # otherwise `old` may be the only checkpoint there is
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    work.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, model: Transformer, optimizer: Optimizer, *, recipe: str) -> int:
    """Restore a run into `model` and `optimizer`; returns the number of steps done.

    Raises CheckpointError that names the file, the field or the tensor at fault, before anything is changed.
    """
    if not folder.exists() and folder.with_name(folder.name + ".old").exists():
        folder = folder.with_name(folder.name + ".old")  # a kill between the two renames of `save`
    try:
        meta = json.loads((folder / "checkpoint.json").read_text())
        step, steps, shards, config = (meta[k] for k in ("step", "optimizer_steps", "shards", "config"))
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
    tensors = _read(folder, shards)
    names = {f"model.{k}" for k in model.state_dict()}
    names |= {f"optim.{kind}.{name}" for name, state in optimizer.state.items() for kind in state}
    if missing := sorted(names - tensors.keys()):
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing")
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    with torch.no_grad():
        for name, state in optimizer.state.items():
            for kind, value in state.items():
                value.copy_(tensors[f"optim.{kind}.{name}"])
    optimizer.step_count = steps
    return step


def _read(folder: Path, shards: list[dict[str, str]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        path = folder / shard["file"]
        if not path.exists():
            raise CheckpointError(f"{path}: shard is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
            raise CheckpointError(f"{path}: checksum differs, the shard is damaged")
        tensors.update(load_file(path))
    return tensors


def _sync(path: Path) -> None:
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
