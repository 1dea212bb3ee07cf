"""Attention of many queries of one sequence in compiled code: FP32, on the CPU, no gradient.

Covers: what reading meets: window, sink, and listed or all visible entries in one softmax (many.cpp). Entries are read
where they lie; those that do not lie as FP32 are converted, listed ones for `_GATHERED` queries at a time. A query has
the same bits on any number of threads. Does not cover: attention mass, widths that are no multiple of `WIDTH`, machines
without the library (`chunk` everywhere there), a handful of queries (`compiled`).
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.compiled import in_halves
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Picked, Selection
from octavo.kernels.sparse_attention.compiled import described

WIDTH = 16  # widths of rows are multiples of this
_GATHERED = 256  # queries whose entries are gathered together


def fits(q: Tensor, sink: Tensor, mass_every: int) -> bool:
    """Whether this body serves a call that `chunk` serves."""
    plain = sink.dtype == q.dtype and sink.is_contiguous()
    return plain and not mass_every and q.shape[3] % WIDTH == 0 and native.library(native.MANY) is not None


def attend(
    q: Tensor, window_rows: Tensor, sink: Tensor, *, first: int, window: int, scale: float, rows: Rows | None,
    selection: Selection | None,
) -> Tensor:  # fmt: skip
    """The output of the package's contract."""
    S, past, q, out = q.shape[1], window_rows.shape[1] - q.shape[1], q.contiguous(), torch.empty(q.shape)
    gathered = isinstance(selection, Picked) and rows is not None and rows.where() is None
    step, options = _GATHERED if gathered else S, {"window": window, "scale": scale, "rows": rows}
    for begin in range(0, S, step):
        end = min(begin + step, S)
        chosen = Picked(selection.index[:, begin:end]) if isinstance(selection, Picked) else selection
        some, near, into = q[:, begin:end], window_rows[:, : past + end], out[:, begin:end]
        _run(some, near, sink, into, first=first + begin, selection=chosen, **options)
    return out


def _run(
    q: Tensor, window_rows: Tensor, sink: Tensor, out: Tensor, *, first: int, window: int, scale: float,
    rows: Rows | None, selection: Selection | None,
) -> None:  # fmt: skip
    call, held = described(
        q, window_rows, sink, first=first, window=window, scale=scale, rows=rows, selection=selection
    )
    run, at = native.called(native.MANY).octavo_many_attend, ctypes.addressof(call)
    in_halves(lambda start, stop: run(at, start, stop, q.data_ptr(), out.data_ptr()), q.shape[1])
    del held
