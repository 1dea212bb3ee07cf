"""Attention of many queries of one sequence on the CPU: FP32, no gradient.

Covers: handing calls to compiled code (`many`) where it serves them; elsewhere the window as products of blocks of
`_BLOCK` queries with the rows that any of them sees, all visible entries as one product (many of them span by span, see
`spans`), listed entries as loops over queries, and the softmax over both in one pass while a run's scores are in the
cache. Probabilities of what a query does not see are set to zero. Does not cover: a handful of queries (`loops`),
several sequences in one call.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.floats import exp, highest
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.kernels.sparse_attention import many, spans
from octavo.kernels.sparse_attention.heads import add_rows, logits_of
from octavo.kernels.sparse_attention.loops import listed_entries
from octavo.kernels.sparse_attention.spans import scaled, weights

_BLOCK = 32  # queries that share window rows in one product
_LEAST = 16  # queries from which that is faster than loops
_MOST = 512  # queries of a run: their scores stay in the cache, and so many are gathered for together
_ELEMENTS = 1 << 20  # scores held at once where entries are many
_NONE = np.float32(0.0)


def fits(q: Tensor, window_rows: Tensor, selection: Selection | None) -> bool:
    """Whether this body serves the call."""
    if q.shape[0] != 1 or q.shape[1] < _LEAST or window_rows.dtype != q.dtype:
        return False
    return isinstance(selection, Causal | Picked | None)


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
) -> tuple[Tensor, Tensor | None]:
    """See the package docstring for the contract."""
    if many.fits(q, sink, mass_every):
        given = {"first": first, "window": window, "scale": scale, "rows": rows, "selection": selection}
        return many.attend(q, window_rows, sink, **given), None
    S, H, K = q.shape[1:]
    out, masses = torch.empty(S, H, K), []
    given, begin = q[0].contiguous(), 0
    entries = _visible(rows, selection, first + S)
    spanned = entries is not None and not mass_every and len(entries) > spans.SPAN
    held = spans.SPAN if spanned else 0 if entries is None else len(entries)
    step = max(1, min(_MOST, _ELEMENTS // (H * (_BLOCK + window + held))) // _BLOCK) * _BLOCK
    room = spans.scratch(min(step, S), H) if spanned else None
    while begin < S:
        size = min(step, S - begin)
        size = size // _BLOCK * _BLOCK or size
        span = _Run(window_rows[0], S=S, begin=begin, size=size, window=window)
        some, into = given[begin : begin + size], out[begin : begin + size]
        level = sink.numpy(), np.float32(scale)
        if isinstance(selection, Picked) and rows is not None:
            listed = selection.index[0, begin : begin + size]
            masses.append(_picked(span, some, level, rows, listed, into, counted=mass_every > 0))
        else:
            masses.append(_causal(span, some, level, entries, selection, first + begin, room, into))
        begin += size
    if not mass_every or rows is None:
        return out.unsqueeze(0), None
    most = max(m.shape[1] for m in masses)
    found = torch.cat([F.pad(m, (0, most - m.shape[1])) for m in masses])
    if isinstance(selection, Causal):
        found = F.pad(found, (0, rows.length - most))
    return out.unsqueeze(0), found[mass_every - 1 :: mass_every].unsqueeze(0)


def _visible(rows: Rows | None, selection: Selection | None, end: int) -> Tensor | None:
    """The entries [C, K] that a query before token `end` sees, None where they are listed or there are none."""
    if rows is None or not isinstance(selection, Causal):
        return None
    return rows.tile(0, min(end // selection.ratio, rows.length))[0].float()


class _Run:
    """Window rows of the queries begin .. begin + size - 1 as overlapping blocks [n, block + window - 1, K]."""

    def __init__(self, rows: Tensor, *, S: int, begin: int, size: int, window: int) -> None:
        past, K = rows.shape[0] - S, rows.shape[1]
        first = past + begin - (window - 1)
        keys = rows[max(first, 0) : past + begin + size]
        self.missing = max(-first, 0)
        keys = F.pad(keys, (0, 0, self.missing, 0)) if self.missing else keys.contiguous()
        self.size, self.block, self.window = size, min(_BLOCK, size), window
        shape = size // self.block, self.block + window - 1, K
        self.blocks = keys.as_strided(shape, (self.block * K, K, 1), keys.storage_offset())

    def scores(self, q: Tensor) -> Tensor:
        """[size, H, K] -> [size, H, block + window - 1], what is out of a query's window included."""
        S, H, K = q.shape
        return torch.bmm(q.view(-1, self.block * H, K), self.blocks.transpose(1, 2)).view(S, H, -1)

    def add(self, p: Tensor, out: Tensor, *, fresh: bool) -> None:
        """out [size, H, K] = (or, unless fresh, +=) p [size, H, ...] times the rows."""
        S, H, K = out.shape
        into, p = out.view(-1, self.block * H, K), p.view(-1, self.block * H, p.shape[-1])
        if fresh:
            torch.bmm(p, self.blocks, out=into)
        else:
            into.baddbmm_(p, self.blocks)

    @property
    def place(self) -> tuple[int, int, int]:
        """Block, window, missing rows."""
        return self.block, self.window, self.missing


def _causal(
    span: _Run, q: Tensor, level: tuple[np.ndarray, np.float32], entries: Tensor | None, selection: Selection | None,
    first: int, room: Tensor | None, out: Tensor,
) -> Tensor:  # fmt: skip
    """Window and all visible entries, or the window alone; the first query is token `first`. With `room` for the scores
    of a span there are many entries, and no masses [S, 0]."""
    S, H, K = q.shape
    offset, seen = _NONE, np.zeros(S, dtype=np.int64)
    values = q.new_empty(0, K)
    if entries is not None and isinstance(selection, Causal):
        seen = np.minimum(np.arange(first + 1, first + S + 1) // selection.ratio, len(entries))
        values = entries[: int(seen[-1])]
        offset = _NONE if selection.offset is None else np.float32(selection.offset.item())
    if room is not None:
        spans.attend_spans(span, q, level, values, seen, offset, room, out)
        return q.new_empty(S, 0)
    near = span.scores(q)
    far = q.view(S * H, K) @ values.T
    mass = np.zeros((S, len(values)), dtype=np.float32)
    given = near.numpy(), far.view(S, H, -1).numpy(), seen, offset, *level, *span.place, mass
    in_halves(partial(_soften, *given), S)
    span.add(near, out, fresh=True)
    if len(values):
        out.view(S * H, K).addmm_(far, values)
    return torch.from_numpy(mass)


def _picked(
    span: _Run, q: Tensor, level: tuple[np.ndarray, np.float32], rows: Rows, index: Tensor, out: Tensor, *,
    counted: bool,
) -> Tensor:  # fmt: skip
    """Window and listed entries. Masses [S, k] where `counted`, else [S, 0]."""
    near, (entries, listed) = span.scores(q), listed_entries(rows, index.unsqueeze(0), 0, len(index))
    mass = np.zeros((len(listed), listed.shape[1] if counted else 0), dtype=np.float32)
    given = q.numpy(), near.numpy(), entries, listed, *level, *span.place, mass, out.numpy()
    in_halves(partial(_soften_listed, *given), len(q))
    span.add(near, out, fresh=False)
    return torch.from_numpy(mass)


@part
def _bounds(s, block, window, missing):
    """Columns of its block's scores that query s of a run sees."""
    i = s % block
    return max(i, missing - (s - i)), i + window


@part
def _softmax(near, far, sink):
    """Two rows and the sink's logit -> probabilities in place."""
    top = max(sink, max(highest(near), highest(far)))
    total = exp(sink - top) + weights(near, top) + weights(far, top)
    scaled(near, np.float32(1.0) / total, np.float32(0.0))
    scaled(far, np.float32(1.0) / total, np.float32(0.0))


@loop
def _soften(near, far, seen, offset, sink, scale, block, window, missing, mass, start, stop):
    for s in range(start, stop):
        lo, hi = _bounds(s, block, window, missing)
        for h in range(near.shape[1]):
            by_window, by_entry = near[s, h, lo:hi], far[s, h, : seen[s]]
            scaled(by_window, scale, np.float32(0.0))
            scaled(by_entry, scale, offset)
            _softmax(by_window, by_entry, sink[h])
            near[s, h, :lo], near[s, h, hi:] = np.float32(0.0), np.float32(0.0)
            far[s, h, seen[s] :] = np.float32(0.0)
            for i in range(seen[s]):
                mass[s, i] += by_entry[i]


@loop
def _soften_listed(q, near, entries, index, sink, scale, block, window, missing, mass, out, start, stop):
    H, most = q.shape[1], index.shape[1]
    far = np.empty((H, most), dtype=np.float32)
    listed, place = np.empty(most, np.int64), np.empty(most, np.int64)
    for s in range(start, stop):
        lo, hi = _bounds(s, block, window, missing)
        n = 0
        for i in range(most):
            if index[s, i] >= 0:
                listed[n], place[n] = index[s, i], i
                n += 1
        logits_of(q[s], entries, listed[:n], scale, far)
        for h in range(H):
            by_window, by_entry = near[s, h, lo:hi], far[h, :n]
            scaled(by_window, scale, np.float32(0.0))
            _softmax(by_window, by_entry, sink[h])
            near[s, h, :lo], near[s, h, hi:] = np.float32(0.0), np.float32(0.0)
            for i in range(n if mass.shape[1] else 0):
                mass[s, place[i]] += by_entry[i]
        out[s] = np.float32(0.0)
        add_rows(far, entries, listed[:n], out[s])
