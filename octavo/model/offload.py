"""Loading a model that does not fit into memory: routed experts and Engram's tables stay in their files.

Covers: `load_offloaded`, and a look at the weights that stayed. Does not cover: how experts are kept and read
(`offload_store`, `offload_experts`) and rows of tables (`offload_engram`), models that fit (`checkpoint`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from octavo.model.checkpoint import Shards, load_weights
from octavo.model.offload_engram import MappedTable, offload_engram, table_parameters
from octavo.model.offload_experts import Stack, expert_parameters, offload_experts
from octavo.model.offload_store import ExpertStore
from octavo.model.transformer import Transformer


def load_offloaded(
    model: Transformer, folder: Path, dtype: torch.dtype, *, budget_bytes: int | None, engram: bool,
    cached: bool = False,
) -> ExpertStore | None:  # fmt: skip
    """Load `model` (on the meta device) from `folder`, as `load_weights`, but for routed experts, of which memory holds
    at most `budget_bytes` (None: they are loaded too), and with `engram` for Engram's tables. The model is for
    inference on the CPU; what it computes is what a loaded one computes, bit by bit.

    `cached`: experts are read through the system's cache, see `Shards`. Returns the store of the
    experts. Raises CheckpointError as `load_weights`, later too, when a file is gone, changed or cut short;
    LimitError for a budget that is too small.
    """
    stays: frozenset[str] = frozenset() if budget_bytes is None else expert_parameters(model)
    stays |= table_parameters(model) if engram else frozenset()
    report = load_weights(model, folder, dtype, stays=stays)
    paths = [
        entry.path
        for matrices in report.left.values()
        for matrix in matrices
        for entry in (matrix.entry, matrix.scale)
        if entry is not None
    ]
    shards = Shards(paths, cached=cached)
    if engram:
        offload_engram(model, report, dtype, shards)
    if budget_bytes is None:
        return None
    return offload_experts(model, report, dtype, shards, budget_bytes=budget_bytes)


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, Stack | MappedTable]]:
    """Weights that stayed on disk, by the names that parameters have; each has a shape, a dtype and `sample(step)`."""
    for name, module in model.named_modules():
        for leaf, stored in getattr(module, "stored", {}).items():
            yield f"{name}.{leaf}", stored
