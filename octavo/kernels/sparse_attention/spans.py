"""All of many entries for a run of queries, a span of entries at a time: FP32, on the CPU, no gradient.

Covers: the running softmax over spans, so that only the scores of one span are held and stay in the cache, in memory
that is used again for the next. Spans have a fixed size and come in order. Does not cover: the window's products and
few entries (`chunk`), attention mass, which needs every score at the end.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.floats import exp, highest

SPAN = 512  # entries whose scores are held at once


class WindowRun(Protocol):
    """The window rows of a run of queries, as `chunk` lays them out."""

    def scores(self, q: Tensor) -> Tensor: ...

    def add(self, p: Tensor, out: Tensor, *, fresh: bool) -> None: ...

    @property
    def place(self) -> tuple[int, int, int]: ...


def scratch(queries: int, heads: int) -> Tensor:
    """Room for the scores of `queries` queries over one span, for every run of a call."""
    return torch.empty(queries * heads * SPAN)


def attend_spans(
    span: WindowRun, q: Tensor, level: tuple[np.ndarray, np.float32], entries: Tensor, seen: np.ndarray,
    offset: np.float32, room: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """out [S, H, K] of queries q [S, H, K]: their window, the sink, and the first seen[s] (ascending) of entries
    [C, K], `offset` added to the logits of those. `level`: sink [H] and scale. `room`: from `scratch`."""
    S, H, K = q.shape
    near, (sink, scale) = span.scores(q), level
    tops, totals = np.empty((S, H), dtype=np.float32), np.empty((S, H), dtype=np.float32)
    in_halves(partial(_begin, near.numpy(), sink, scale, *span.place, tops, totals), S)
    span.add(near, out, fresh=True)
    flat, sums, cells = q.view(S * H, K), out.view(S * H, K), out.numpy()
    for lo in range(0, int(seen[-1]), SPAN):
        some = entries[lo : min(lo + SPAN, int(seen[-1]))]
        scores = room[: S * H * len(some)].view(S * H, len(some))
        torch.mm(flat, some.T, out=scores)
        in_halves(partial(_fold, scores.view(S, H, -1).numpy(), seen - lo, scale, offset, tops, totals, cells), S)
        sums.addmm_(scores, some)
    in_halves(partial(_divide, totals, cells), S)


@part
def weights(row, top):
    """Exponentials in place, and their sum."""
    total = np.float32(0.0)
    for i in range(len(row)):
        row[i] = exp(row[i] - top)
        total += row[i]
    return total


@part
def scaled(row, scale, offset):
    """Scaled and shifted in place."""
    for i in range(len(row)):
        row[i] = row[i] * scale + offset


@loop
def _begin(near, sink, scale, block, window, missing, tops, totals, start, stop):
    """Window scores -> weights against their maximum and the sink; what is out of the window weighs nothing."""
    for s in range(start, stop):
        i = s % block
        lo, hi = max(i, missing - (s - i)), i + window
        for h in range(near.shape[1]):
            row = near[s, h, lo:hi]
            scaled(row, scale, np.float32(0.0))
            top = max(sink[h], highest(row))
            totals[s, h] = exp(sink[h] - top) + weights(row, top)
            tops[s, h] = top
            near[s, h, :lo], near[s, h, hi:] = np.float32(0.0), np.float32(0.0)


@loop
def _fold(scores, seen, scale, offset, tops, totals, out, start, stop):
    """Scores of a span -> weights against the maximum so far; what was summed before shrinks when that rises."""
    for s in range(start, stop):
        n = min(max(seen[s], 0), scores.shape[2])
        for h in range(scores.shape[1]):
            row, old = scores[s, h, :n], tops[s, h]
            scores[s, h, n:] = np.float32(0.0)
            if n == 0:
                continue
            scaled(row, scale, offset)
            top = max(old, highest(row))
            if top > old:
                shrink = exp(old - top)
                totals[s, h] *= shrink
                scaled(out[s, h], shrink, np.float32(0.0))
                tops[s, h] = top
            totals[s, h] += weights(row, top)


@loop
def _divide(totals, out, start, stop):
    for s in range(start, stop):
        for h in range(out.shape[1]):
            scaled(out[s, h], np.float32(1.0) / totals[s, h], np.float32(0.0))
