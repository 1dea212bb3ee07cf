"""Attention of a handful of queries over all of many entries, piece by piece: FP32, on the CPU, no gradient.

Covers: what decoding meets in a long context. A piece of entries is read once, for all heads, while it is in the cache,
and the threads share the pieces. Pieces have a fixed size and are joined in order, so that a query has the same bits
alone, among others, and on any number of threads. Queries that see few entries are left to `loops`, where all visible
entries give the bits of the same entries listed. Does not cover: listed entries; many queries (`chunk`).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.floats import exp, highest
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Selection
from octavo.kernels.sparse_attention import loops
from octavo.kernels.sparse_attention.heads import add_rows, logits_of

_PIECE = 64  # entries of a piece: 32 KB of 128-wide rows
_FEW = 512  # entries up to which a query is left to the loops


def attend(
    q: Tensor, window_rows: Tensor, sink: Tensor, *, first: int, window: int, scale: float, rows: Rows | None,
    selection: Selection | None, mass_every: int,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """See the package docstring for the contract."""
    assert rows is not None
    assert isinstance(selection, Causal)
    S = q.shape[1]
    seen = np.minimum(np.arange(first + 1, first + S + 1) // selection.ratio, rows.length)
    few = int((seen <= _FEW).sum())
    given = {"window": window, "scale": scale, "rows": rows, "selection": selection}
    if few == S:
        return loops.attend(q, window_rows, sink, first=first, mass_every=mass_every, **given)
    if few == 0:
        o, mass = _by_pieces(q, window_rows, sink, window, scale, rows, seen, with_mass=mass_every > 0)
    else:
        ours = window_rows[:, : window_rows.shape[1] - (S - few)]
        before, early = loops.attend(q[:, :few], ours, sink, first=first, mass_every=int(mass_every > 0), **given)
        behind = q[:, few:], window_rows, sink, window, scale, rows, seen[few:]
        after, late = _by_pieces(*behind, with_mass=mass_every > 0)
        o = torch.cat((before, after), dim=1)
        mass = None if early is None or late is None else torch.cat((early, late), dim=1)
    return o, None if mass is None else mass[:, mass_every - 1 :: mass_every]


def _by_pieces(
    q: Tensor, window_rows: Tensor, sink: Tensor, window: int, scale: float, rows: Rows, seen: np.ndarray, *,
    with_mass: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    S, H, K = q.shape[1:]
    most = int(seen[-1])
    pieces = -(-most // _PIECE)
    entries = rows.tile(0, most)[0].float().contiguous().numpy()
    near, given, scale_ = window_rows[0].contiguous().numpy(), q[0].contiguous().numpy(), np.float32(scale)
    logits = np.empty((S, H, pieces * _PIECE), dtype=np.float32)
    tops, totals = np.empty((S, pieces, H), dtype=np.float32), np.zeros((S, pieces, H), dtype=np.float32)
    sums, out = np.zeros((S, pieces, H, K), dtype=np.float32), np.zeros((S, H, K), dtype=np.float32)
    in_halves(partial(_pieces, given, entries, seen, scale_, logits, tops, totals, sums), S * pieces)
    level = np.empty((S, H, 2), dtype=np.float32)
    _join(given, near, sink.numpy(), len(near) - S, window, scale_, tops, totals, sums, out, level)
    result = torch.from_numpy(out).unsqueeze(0)
    if not with_mass:
        return result, None
    mass = np.zeros((S, rows.length), dtype=np.float32)
    in_halves(partial(_mass, logits, tops, level, seen, mass), S * pieces)
    return result, torch.from_numpy(mass).unsqueeze(0)


@part
def _span(t, pieces, seen):
    """Query, piece, and the entries of it that the query sees."""
    s, p = t // pieces, t % pieces
    return s, p, p * _PIECE, min(p * _PIECE + _PIECE, seen[s])


@loop
def _pieces(q, entries, seen, scale, logits, tops, totals, sums, start, stop):
    """Steps are queries times pieces: exponentials against the piece's own maximum, their sum, and the sum of rows."""
    listed = np.arange(_PIECE)
    for t in range(start, stop):
        s, p, lo, hi = _span(t, tops.shape[1], seen)
        if hi <= lo:
            tops[s, p, :] = np.float32(-np.inf)
            continue
        mine, rows = logits[s, :, lo:hi], entries[lo:hi]
        logits_of(q[s], rows, listed[: hi - lo], scale, mine)
        for h in range(len(mine)):
            row = mine[h]
            top, total = highest(row), np.float32(0.0)
            for i in range(len(row)):
                row[i] = exp(row[i] - top)
                total += row[i]
            tops[s, p, h], totals[s, p, h] = top, total
        add_rows(mine, rows, listed[: hi - lo], sums[s, p])


@loop
def _join(q, near, sink, past, window, scale, tops, totals, sums, out, level):
    """Window, sink and pieces under one softmax; `level` keeps each head's maximum and sum."""
    S, pieces, H = tops.shape
    listed, row = np.arange(window), np.empty((H, window), dtype=np.float32)
    for s in range(S):
        lo, hi = max(0, past + s - window + 1), past + s + 1
        mine, rows = row[:, : hi - lo], near[lo:hi]
        logits_of(q[s], rows, listed[: hi - lo], scale, mine)
        for h in range(H):
            top = max(sink[h], highest(mine[h]))
            for p in range(pieces):
                top = max(top, tops[s, p, h])
            total = exp(sink[h] - top)
            for i in range(hi - lo):
                mine[h, i] = exp(mine[h, i] - top)
                total += mine[h, i]
            for p in range(pieces):
                if totals[s, p, h] > 0:
                    share = exp(tops[s, p, h] - top)
                    total += share * totals[s, p, h]
                    for k in range(out.shape[2]):
                        out[s, h, k] += share * sums[s, p, h, k]
            level[s, h, 0], level[s, h, 1] = top, total
        add_rows(mine, rows, listed[: hi - lo], out[s])
        for h in range(H):
            for k in range(out.shape[2]):
                out[s, h, k] /= level[s, h, 1]


@loop
def _mass(parts, tops, level, seen, mass, start, stop):
    for t in range(start, stop):
        s, p, lo, hi = _span(t, tops.shape[1], seen)
        for h in range(parts.shape[1]):
            if hi > lo:
                share = exp(tops[s, p, h] - level[s, h, 0]) / level[s, h, 1]
                for e in range(lo, hi):
                    mass[s, e] += share * parts[s, h, e]
