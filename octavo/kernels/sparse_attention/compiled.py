"""Attention of a handful of queries of one sequence in compiled code: FP32, on the CPU, no gradient.

Covers: what decoding and the verification of drafts meet: window, listed entries, all visible ones with or without an
offset, masses. Entries are read where they lie. A query has the same bits alone and among others, wherever its pages
are, on any number of threads, and where all entries are listed as where all are visible (octavo/kernels/step/attend.h).
Does not cover: machines without the library (`loops` and `pieces` there), several sequences in one call.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.rows import Rows, Stretches
from octavo.kernels.selection import Causal, Masked, Picked, Selection

_INT, _LONG, _FLOAT, _AT = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Attention(ctypes.Structure):
    """`Attention` of attend.h."""

    _fields_ = [
        *[(name, _INT) for name in ("queries", "heads", "width", "window", "past", "parts", "picks", "padding")],
        *[(name, _LONG) for name in ("first", "ratio", "length", "mass_apart")],
        ("scale", _FLOAT),
        ("offset", _FLOAT),
        *[(name, _AT) for name in ("near", "sink", "starts", "listed", "rows")],
    ]


def fits(q: Tensor, window_rows: Tensor, sink: Tensor, selection: Selection | None) -> bool:
    """Whether this body serves the call."""
    if q.shape[0] != 1 or isinstance(selection, Masked) or not native.serves(q, q.shape[1]):
        return False
    return window_rows.dtype == sink.dtype == q.dtype and sink.is_contiguous()


def attend(
    q: Tensor, window_rows: Tensor, sink: Tensor, *, first: int, window: int, scale: float, rows: Rows | None,
    selection: Selection | None, mass_every: int,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """See the package docstring for the contract."""
    S, out, q = q.shape[1], torch.empty(q.shape), q.contiguous()
    listed = selection.index.shape[2] if isinstance(selection, Picked) else None
    mass = None
    if mass_every and rows is not None:
        mass = torch.zeros(1, S, rows.length if listed is None else listed)
    call, held = described(
        q, window_rows, sink, first=first, window=window, scale=scale, rows=rows, selection=selection,
        mass_apart=0 if mass is None else mass.shape[2],
    )  # fmt: skip
    given = ctypes.addressof(call), q.data_ptr(), out.data_ptr(), None if mass is None else mass.data_ptr()
    native.called().octavo_step_attend(torch.get_num_threads(), *given)
    del held
    return out, None if mass is None else mass[:, mass_every - 1 :: mass_every]


def described(
    q: Tensor, window_rows: Tensor, sink: Tensor, *, first: int, window: int, scale: float, rows: Rows | None,
    selection: Selection | None, mass_apart: int = 0,
) -> tuple[Attention, list[Any]]:  # fmt: skip
    """A call in the terms of attend.h, and what must be held while it runs."""
    (_, S, H, K), near = q.shape, window_rows.contiguous()
    where, length, listed, held = _places(rows, selection, first + S)
    count = len(where.starts)
    starts, addresses = (_LONG * count)(*where.starts), (_AT * count)(*where.addresses)
    ratio, offset = 0, 0.0
    if isinstance(selection, Causal) and count:
        ratio, offset = selection.ratio, 0.0 if selection.offset is None else selection.offset.item()
    call = Attention(
        S, H, K, window, near.shape[1] - S, count, 0 if listed is None else listed.shape[2], 0,
        first, ratio, length, mass_apart, scale, offset,
        near.data_ptr(), sink.data_ptr(), ctypes.addressof(starts), None if listed is None else listed.data_ptr(),
        ctypes.addressof(addresses),
    )  # fmt: skip
    return call, [near, listed, held, starts, addresses]


def _places(
    rows: Rows | None, selection: Selection | None, end: int
) -> tuple[Stretches, int, Tensor | None, Tensor | None]:
    """Where entries lie, how many there are, which are listed [1, S, k], and what must be held meanwhile. `end`: tokens
    up to the last query's. What does not lie as FP32 is converted, as far as queries before token `end` see it."""
    if rows is None or selection is None:
        return Stretches([], []), 0, None, None
    index = selection.index.contiguous() if isinstance(selection, Picked) else None
    where = rows.where()
    if where is not None:
        return where, rows.length, index, None
    if index is None:
        assert isinstance(selection, Causal)
        seen = min(end // selection.ratio, rows.length)
        held = rows.tile(0, seen)[0].float().contiguous()
        return Stretches([0], [held.data_ptr()]), seen, None, held
    own = torch.arange(index.numel()).view(index.shape).masked_fill(index < 0, -1)
    held = rows.gather(index.clamp_min(0))[0].float().flatten(0, 1).contiguous()
    return Stretches([0], [held.data_ptr()]), len(held), own, held
