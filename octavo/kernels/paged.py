"""Compressed entries as kernels on a GPU read and write them: rows of bytes behind a page table.

Covers: `PagedStore` (one store of one layer over all sequences of a step) and `Places` (which token of which sequence
each packed row is). Both hold tensors alone, so that a captured graph stays valid while sequences grow. Does not cover:
who owns a page, encoding on the CPU (`octavo.cache`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PAGE_TOKENS = 256
Format = Literal["fp32", "bf16", "fp8", "fp4"]


@dataclass(frozen=True)
class PagedStore:
    """Rows uint8 [slots, row_bytes]; entry e of sequence b lies in slot table[b, e // n] * n + e % n, n = 256 / ratio.

    `table` is int32 [B, pages]. `format` says how a row of `width` values is stored; `rope` is the number of rotary
    channels at its end, which FP8 rows keep in BF16 and FP4 rows in e4m3 (0 for index keys). Layouts:
    `octavo.kernels.quant`.
    """

    rows: Tensor
    table: Tensor
    ratio: int
    width: int
    format: Format
    rope: int = 0

    @property
    def per_page(self) -> int:
        """Entries of one page."""
        return PAGE_TOKENS // self.ratio


@dataclass(frozen=True)
class Places:
    """Packed row t is token `position[t]` of sequence `sequence[t]`, both int32 [T]; position -1 marks padding, whose
    results are zero (or -1 for picks) and which writes nothing. A sequence's tokens are ascending and together."""

    sequence: Tensor
    position: Tensor

    @classmethod
    def of(cls, starts: list[int], counts: list[int], device: torch.device | str = "cpu") -> Places:
        """The next counts[b] tokens of sequences that hold starts[b] tokens."""
        sequence = torch.cat([torch.full((n,), b, dtype=torch.int32) for b, n in enumerate(counts)])
        position = torch.cat(
            [torch.arange(s, s + n, dtype=torch.int32) for s, n in zip(starts, counts, strict=True)]
        )
        return cls(sequence.to(device), position.to(device))


@dataclass(frozen=True)
class Ring:
    """The last rows of each sequence: rows [B, R, ...], R a power of two; token t of sequence b lies at t % R."""

    rows: Tensor

    @property
    def length(self) -> int:
        """R."""
        return self.rows.shape[1]
