"""Rows of compressed entries as the kernels see them.

Covers: the protocol `Rows` (a sequence of C entries of width K that can be read in tiles and gathered by number) and
`DenseRows`, its plain tensor form. Does not cover: paged storage (`octavo.cache.pool`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Stretches(NamedTuple):
    """First entry of each stretch, ascending from 0, and its address: rows lie one behind the other there. Addresses
    hold as long as the rows are held, and nothing is added to them."""

    starts: list[int]
    addresses: list[int]


class Rows(Protocol):
    """Compressed entries 0..length-1 of `batch` sequences, each a vector of `width` values."""

    @property
    def length(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def together(self) -> bool:
        """Whether `tile(0, length)` copies nothing: all entries lie in one place as plain FP32."""
        ...

    def where(self) -> Stretches | None:
        """The stretches in which the entries of the one sequence lie as plain FP32, None where they do not."""
        ...

    def tile(self, start: int, stop: int) -> Tensor:
        """Entries start..stop-1 as [B, stop - start, width]."""
        ...

    def gather(self, index_BSk: Tensor) -> Tensor:
        """Entries by number, [B, S, k] -> [B, S, k, width]; numbers are in 0..length-1."""
        ...

    def means(self, size: int) -> Tensor:
        """Mean of every complete run of `size` entries from the first on, at least FP32: [B, length // size, width]."""
        ...

    def coarse(self, size: int) -> Rows:
        """The means as rows."""
        ...


class DenseRows:
    """Entries held in one tensor [B, C, width]; differentiable."""

    def __init__(self, values_BCK: Tensor) -> None:
        self.values_BCK = values_BCK

    @property
    def length(self) -> int:
        return self.values_BCK.shape[1]

    @property
    def width(self) -> int:
        return self.values_BCK.shape[2]

    @property
    def together(self) -> bool:
        return self.values_BCK.dtype == torch.float32

    def where(self) -> Stretches | None:
        values = self.values_BCK
        plain = len(values) == 1 and values.is_cpu and values.dtype == torch.float32 and values.is_contiguous()
        return Stretches([0], [values.data_ptr()]) if plain else None

    def tile(self, start: int, stop: int) -> Tensor:
        return self.values_BCK[:, start:stop]

    def gather(self, index_BSk: Tensor) -> Tensor:
        B, C, K = self.values_BCK.shape
        base = torch.arange(B, device=index_BSk.device).view(B, 1, 1) * C
        flat = (index_BSk + base).reshape(-1)
        return self.values_BCK.reshape(B * C, K).index_select(0, flat).view(*index_BSk.shape, K)

    def means(self, size: int) -> Tensor:
        whole = self.values_BCK[:, : self.length // size * size]
        return (whole if whole.dtype == torch.float64 else whole.float()).unflatten(1, (-1, size)).mean(2)

    def coarse(self, size: int) -> DenseRows:
        return DenseRows(self.means(size))
