"""Engram's tables left in their file, their rows fetched ahead.

Covers: `offload_engram`, tables by memory map, a thread that reads the rows of a step while the layers before Engram
still compute. Rows depend on token ids alone, so what is fetched is exactly what will be used. Does not cover: routed
experts (`offload_experts`), quantised tables.

A token takes a few dozen rows of some dozen bytes each, scattered over the table: reading them costs a wait for each,
not bandwidth, and a memory map asks the system for the pages they are in and nothing else.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor, nn

from octavo.cache.view import View
from octavo.config.errors import CheckpointError
from octavo.kernels.engram_lookup import gather
from octavo.model.checkpoint import LoadReport, Shards, StoredMatrix, formats
from octavo.model.engram import Engram
from octavo.model.offload_experts import blocks_of
from octavo.model.transformer import Transformer


def table_parameters(model: Transformer) -> frozenset[str]:
    """Names of the parameters that are Engram's tables."""
    return frozenset(f"{name}.engram.table.weight" for name, block in blocks_of(model) if block.has_engram)


def offload_engram(model: Transformer, report: LoadReport, dtype: torch.dtype, shards: Shards) -> None:
    """Give the Engram layers of `model` (loaded with `table_parameters` left on disk) tables that stay in their files.

    `dtype` is that of the rows in use. CheckpointError for a table in FP4 or one that cannot be mapped.
    """
    threads = ThreadPoolExecutor(1, thread_name_prefix="octavo-engram")
    layers = []
    for name, block in blocks_of(model):
        if block.has_engram:
            (matrix,) = report.left[f"{name}.engram.table.weight"]
            block.engram = OffloadedEngram(block.engram, MappedTable(matrix, shards, dtype), threads)
            layers.append(block.engram)

    def ahead(_: nn.Module, given: tuple[Tensor, View]) -> None:
        tokens, view = given
        for engram in layers:
            engram.fetch(tokens, view, model.get_buffer("engram_map"))

    if layers:
        model.register_forward_pre_hook(ahead)


class MappedTable:
    """Rows [R, d] of a table in a file; a file changed or cut short since the model was loaded is refused."""

    def __init__(self, matrix: StoredMatrix, shards: Shards, dtype: torch.dtype) -> None:
        entry = matrix.entry
        if entry.tag not in formats.PLAIN and entry.tag != formats.FP8:
            kinds = ", ".join((*sorted(formats.PLAIN), formats.FP8))
            raise CheckpointError(
                f"tensor '{entry.name}' in {entry.path} has type {entry.tag}; a table that stays on disk must be of "
                f"{kinds}"
            )
        self._matrix, self._shards, self.dtype = matrix, shards, dtype
        self.shape = torch.Size((matrix.rows, matrix.width))
        try:
            with entry.path.open("rb") as file:
                # Never written to; torch only asks that a map could be.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot map {entry.path}: {error}") from error
        mapped.madvise(mmap.MADV_RANDOM)  # neighbours of a row are of no use
        values = torch.frombuffer(mapped, dtype=torch.uint8, count=entry.nbytes, offset=entry.offset)
        self._bytes = values.view(matrix.rows, -1)
        self._factors: Tensor | None = None  # of whole rows: FP32 [tiles, d]
        if matrix.scale is not None:
            scale = matrix.read(shards, slice(0, 1)).scale  # all tiles come with any row
            assert scale is not None
            self._factors = formats.scale_factors(scale).repeat_interleave(formats.TILE, 1)[:, : matrix.width]

    def rows(self, ids: Tensor) -> Tensor:
        """Rows [T, n * d] of ids [T, n], in the dtype of the model; CheckpointError names tensor and file."""
        entry = self._matrix.entry
        self._shards.check(entry)
        found = gather(self._bytes, ids).view(formats.DTYPES[entry.tag])
        if self._factors is not None:
            found = found.float().view(*ids.shape, -1).mul_(self._factors[ids // formats.TILE]).flatten(-2)
        found = found.to(self.dtype)
        if not bool(found.isfinite().all()):
            raise CheckpointError(
                f"tensor '{entry.name}' in {entry.path} holds a value that is NaN, infinite or too large"
            )
        return found

    def sample(self, step: int) -> Tensor:
        """Every `step`-th value of the flattened table, as `tensor.reshape(-1)[::step]`."""
        at = torch.arange(0, self.shape.numel(), step)
        rows = self.rows(at.unsqueeze(1) // self.shape[1])
        return rows.gather(1, at.unsqueeze(1) % self.shape[1]).squeeze(1)


class OffloadedEngram(Engram):
    """`Engram` over the parts of `given`, whose table it takes from a file."""

    def __init__(self, given: Engram, table: MappedTable, threads: ThreadPoolExecutor) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(given.__dict__)
        del self._modules["table"]
        self.__dict__["table"], self._threads = table, threads

    @property
    def stored(self) -> Mapping[str, Any]:
        """The table by the name of its parameter."""
        return {"table.weight": self.__dict__["table"]}

    def fetch(self, tokens: Tensor, view: View, compressed: Tensor) -> Future[Tensor]:
        """The rows of this step's tokens, being read; the same for every call within a step."""
        table = cast(MappedTable, self.__dict__["table"])

        def begin() -> Future[Tensor]:
            return self._threads.submit(table.rows, self.addresses(tokens, view, compressed))

        return view.once(("engram rows", self.layer), begin)

    def recalled(self, tokens: Tensor, view: View, compressed: Tensor) -> Tensor:
        """As `Engram.recalled`."""
        return self.fetch(tokens, view, compressed).result()
