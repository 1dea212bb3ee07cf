"""Training checkpoints: everything a run needs to go on exactly.

Covers: parameters, buffers, optimiser state, step, configuration, written atomically as safetensors shards with checksums and read
back with every damage named. Does not cover: the release format of weights (`octavo.model.checkpoint`).
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
        save_file({k: v.detach().cpu().contiguous() for k, v in shard.items()}, path)
        shards.append({"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    meta = {
        "step": step, "recipe": recipe, "optimizer_steps": optimizer.step_count, "config": model.config.to_dict(), "shards": shards
    }
    with open(work / "checkpoint.json", "w") as f:
        json.dump(meta, f, indent=1)
        f.flush()
        os.fsync(f.fileno())
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    work.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, model: Transformer, optimizer: Optimizer, *, recipe: str) -> int:
    """Restore a run into `model` and `optimizer`; returns the number of steps done. Raises CheckpointError by file and tensor."""
    if not folder.exists() and folder.with_name(folder.name + ".old").exists():
        folder = folder.with_name(folder.name + ".old")  # a kill between the two renames of `save`
    try:
        meta = json.loads((folder / "checkpoint.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/checkpoint.json: {error}") from error
    if meta["recipe"] != recipe:
        raise CheckpointError(f"{folder}: checkpoint of recipe {meta['recipe']!r}, asked to resume {recipe!r}")
    tensors: dict[str, Tensor] = {}
    for shard in meta["shards"]:
        path = folder / shard["file"]
        if not path.exists():
            raise CheckpointError(f"{path}: shard is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
            raise CheckpointError(f"{path}: checksum differs, the shard is damaged")
        tensors.update(load_file(path))
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    with torch.no_grad():
        for name, state in optimizer.state.items():
            for kind, value in state.items():
                key = f"optim.{kind}.{name}"
                if key not in tensors:
                    raise CheckpointError(f"{folder}: tensor {key} is missing")
                value.copy_(tensors[key])
    optimizer.step_count = meta["optimizer_steps"]
    return meta["step"]


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
