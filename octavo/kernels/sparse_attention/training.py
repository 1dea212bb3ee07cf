"""Attention of whole rows while training on a GPU, through the Triton kernels with gradients.

Covers: window rows alone, with all complete entries, with picks or with marked ones, in BF16 or FP32 with up to 512
channels; any number of query tokens, and mass. Does not cover: picks as a mask of bytes (`flex`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Marked, Picked, Selection
from octavo.kernels.sparse_attention.mass import mass_of

_WIDEST = 512


def fits(q: Tensor, selection: Selection | None) -> bool:
    """Whether this body serves the call."""
    kept = q.dtype in (torch.bfloat16, torch.float32) and q.shape[-1] <= _WIDEST
    return kept and isinstance(selection, Causal | Picked | Marked | None)


def attend(
    q: Tensor,
    window_rows: Tensor,
    sink: Tensor,
    *,
    first: int,
    window: int,
    scale: float,
    rows: Rows | None,
    selection: Selection | None,
    mass_every: int,
    begin: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See the package docstring for the contract."""
    from octavo.kernels.sparse_attention.triton_training import attend_with_sums  # triton is there where a GPU is

    entries = None if rows is None else rows.tile(0, rows.length)
    sizes = {"first": first, "window": window, "scale": scale, "begin": begin}
    o, total = attend_with_sums(q, window_rows, sink, entries, selection, **sizes)
    if not mass_every or rows is None or selection is None:
        return o, None
    return o, mass_of(q, rows, selection, total, first=first, scale=scale, every=mass_every)
