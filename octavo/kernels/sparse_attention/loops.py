"""Attention as a loop over queries, on the CPU: FP32, no gradient.

Covers: listed entries of one sequence, each query with its window, and a handful of queries over all visible entries,
as decoding and the verification of drafts have them. Entries are read where they lie; only those that lie in several
places are gathered, some queries at a time. The sums run in the same order either way, so a sequence gives the same
bits wherever its pages are, and a query the same bits alone and among others. Does not cover: many queries over all
visible entries, where one product serves them all (`tiled`).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.compiled import in_halves, loop
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.kernels.sparse_attention.heads import add_rows, logits_of

_GATHERED = 512  # queries whose entries are gathered together
_NO_ROWS = np.empty((0, 1), dtype=np.float32)


def fits(q: Tensor, window_rows: Tensor, selection: Selection | None) -> bool:
    """Whether this body serves the call."""
    if q.shape[0] != 1 or window_rows.dtype != q.dtype:
        return False
    if isinstance(selection, Causal) and selection.offset is not None:
        return False
    few = dispatch.loops_on_cpu(q, tokens=q.shape[1])
    return isinstance(selection, Picked) or (few and isinstance(selection, Causal | None))


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
    S, H, K = q.shape[1:]
    out = np.empty((1, S, H, K), dtype=np.float32)
    near, given, level = window_rows.contiguous().numpy()[0], q.contiguous().numpy()[0], sink.numpy()
    past, masses = len(near) - S, []
    block = S if rows is None or rows.together else _GATHERED
    for begin in range(0, S, block):
        end = min(begin + block, S)
        entries, index = _entries(rows, selection, first, begin, end)
        mass = np.zeros(index.shape, dtype=np.float32)

        run = partial(_attend, given, near, entries, index, mass, level, past, window, np.float32(scale), begin, out[0])
        in_halves(run, end - begin)
        if mass_every:
            masses.append(torch.from_numpy(mass))
    if not mass_every or rows is None:
        return torch.from_numpy(out), None
    found = torch.cat(masses)[mass_every - 1 :: mass_every]
    if isinstance(selection, Causal):
        found = torch.nn.functional.pad(found, (0, rows.length - found.shape[1]))
    return torch.from_numpy(out), found.unsqueeze(0)


def _entries(
    rows: Rows | None, selection: Selection | None, first: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Entries [n, K], and for each of the queries start .. stop the numbers among them that it attends to, -1: none."""
    if rows is None or selection is None:
        return _NO_ROWS, np.empty((stop - start, 0), dtype=np.int64)
    if isinstance(selection, Causal):
        visible = np.minimum(np.arange(first + start + 1, first + stop + 1) // selection.ratio, rows.length)
        listed = np.broadcast_to(np.arange(visible[-1]), (stop - start, visible[-1]))
        own = np.where(listed < visible[:, None], listed, -1)
        return rows.tile(0, int(visible[-1])).float().contiguous().numpy()[0], own
    assert isinstance(selection, Picked)
    return listed_entries(rows, selection.index, start, stop)


def listed_entries(rows: Rows, index: Tensor, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Entries [n, K] that hold what rows start .. stop - 1 of `index` [1, S, k] list, and its numbers among them; -1
    stays."""
    if rows.together:
        return rows.tile(0, rows.length).numpy()[0], index.contiguous().numpy()[0, start:stop]
    listed = index[0, start:stop].contiguous()
    own = torch.arange(listed.numel()).view(listed.shape).masked_fill(listed < 0, -1)
    return rows.gather(listed.clamp_min(0).unsqueeze(0))[0].float().flatten(0, 1).contiguous().numpy(), own.numpy()


@loop
def _attend(q, near, entries, index, mass, sink, past, window, scale, begin, out, start, stop):
    """Queries begin + start .. begin + stop; index and mass begin with query `begin`."""
    H, n_listed = q.shape[1], index.shape[1]
    logits = np.empty((H, window + n_listed), dtype=np.float32)
    beside, listed, place = np.empty(window, np.int64), np.empty(n_listed, np.int64), np.empty(n_listed, np.int64)
    for r in range(start, stop):
        s = begin + r
        lo, hi = max(0, past + s - window + 1), past + s + 1
        n, far = hi - lo, 0
        for i in range(n):
            beside[i] = lo + i
        for i in range(n_listed):
            if index[r, i] >= 0:
                listed[far], place[far] = index[r, i], i
                far += 1
        by_window, by_entry = logits[:, :n], logits[:, n : n + far]
        logits_of(q[s], near, beside[:n], scale, by_window)
        logits_of(q[s], entries, listed[:far], scale, by_entry)
        for h in range(H):
            row, top = logits[h, : n + far], sink[h]
            for i in range(n + far):
                top = max(top, row[i])
            total = np.float32(math.exp(sink[h] - top))
            for i in range(n + far):
                row[i] = np.float32(math.exp(row[i] - top))
                total += row[i]
            for i in range(n + far):
                row[i] /= total
            for i in range(far):
                mass[r, place[i]] += row[n + i]
            out[s, h, :] = np.float32(0.0)
        add_rows(by_window, near, beside[:n], out[s])
        add_rows(by_entry, entries, listed[:far], out[s])
