"""Experts of many tokens on the CPU: FP32, no gradient.

Covers: routed experts as products over each expert's tokens, and one expert over all of them (`mlp`): in compiled code
(`octavo.kernels.chunk`), else by torch. Torch's products write into one buffer; activation, clamps and weight are one
pass then, and so is the sum over a token's experts. Does not cover: a handful of tokens (`loops`), rounding on the way.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.chunk import products
from octavo.kernels.compiled import in_halves, loop
from octavo.kernels.floats import logistic


def experts(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, chosen: Tensor, weights: Tensor, limit: float | None
) -> Tensor:
    """See the package docstring for the contract; nothing is rounded on the way."""
    (T, A), (X, F, D) = chosen.shape, w1.shape
    ends, place = np.zeros(X + 1, dtype=np.int64), np.empty((T, A), dtype=np.int64)
    rows, share = np.empty(T * A, dtype=np.int64), np.empty(T * A, dtype=np.float32)
    sort_by_expert(chosen.numpy(), weights.contiguous().numpy(), ends, place, rows, share)
    spans = [(e, slice(ends[e], ends[e + 1])) for e in range(X) if ends[e + 1] > ends[e]]
    if products.serves(x):
        return _compiled(x, (w1, w3, w2), spans, rows, share, place, limit)
    given = x.index_select(0, torch.from_numpy(rows))
    both, out = torch.empty(2, T * A, F), torch.empty(T * A, D)
    for e, span in spans:
        torch.mm(given[span], w1[e].T, out=both[0, span])
        torch.mm(given[span], w3[e].T, out=both[1, span])
    _activated(both, share, limit)
    for e, span in spans:
        torch.mm(both[0, span], w2[e].T, out=out[span])
    made = np.empty((T, D), dtype=np.float32)
    in_halves(partial(_combine, out.numpy(), place, made), T)
    return torch.from_numpy(made)


def _compiled(
    x: Tensor, weights: tuple[Tensor, Tensor, Tensor], spans: list[tuple[int, slice]], rows: np.ndarray,
    share: np.ndarray, place: np.ndarray, limit: float | None,
) -> Tensor:  # fmt: skip
    """`experts` in compiled code; all first maps come before all second ones, the order that weights on disk expect."""
    w1, w3, w2 = weights
    x, tokens, shares = x.contiguous(), torch.from_numpy(rows), torch.from_numpy(share)
    hidden, out = torch.empty(len(rows), w1.shape[1]), torch.empty(len(rows), x.shape[1])
    for e, span in spans:
        first = w1[e].contiguous(), w3[e].contiguous()
        products.hidden(x, *first, limit=limit, tokens=tokens[span], shares=shares[span], out=hidden[span])
    for e, span in spans:
        products.linear(hidden[span], w2[e].contiguous(), out=out[span])
    return products.sums(out, torch.from_numpy(place))


def mlp(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, limit: float | None) -> Tensor:
    """See the package docstring for the contract; nothing is rounded on the way."""
    if products.serves(x, w1, w3, w2):
        hidden = torch.empty(len(x), len(w1))
        products.hidden(x.contiguous(), w1, w3, limit=limit, out=hidden)
        return products.linear(hidden, w2)
    both = torch.empty(2, x.shape[0], w1.shape[0])
    torch.mm(x, w1.T, out=both[0])
    torch.mm(x, w3.T, out=both[1])
    _activated(both, np.ones(x.shape[0], dtype=np.float32), limit)
    return torch.mm(both[0], w2.T)


def _activated(both: Tensor, share: np.ndarray, limit: float | None) -> None:
    """The activation of gate and up, times each row's share, in the gate's place."""
    gate, up = both.numpy()
    in_halves(partial(_swiglu, gate, up, share, np.float32(math.inf if limit is None else limit)), len(share))


@loop
def sort_by_expert(chosen, weights, ends, place, rows, share):
    """Counting sort by expert, tokens in order: rows of expert e are ends[e] .. ends[e + 1] - 1."""
    T, A = chosen.shape
    for t in range(T):
        for a in range(A):
            ends[chosen[t, a] + 1] += 1
    for e in range(1, len(ends)):
        ends[e] += ends[e - 1]
    at = ends.copy()
    for t in range(T):
        for a in range(A):
            r = at[chosen[t, a]]
            at[chosen[t, a]] += 1
            place[t, a], rows[r], share[r] = r, t, weights[t, a]


@loop
def _swiglu(gate, up, share, limit, start, stop):
    for r in range(start, stop):
        for f in range(gate.shape[1]):
            g, u = gate[r, f], up[r, f]
            g = limit if g > limit else g
            u = limit if u > limit else u
            u = -limit if u < -limit else u
            gate[r, f] = g * logistic(g) * u * share[r]


@loop
def _combine(parts, place, out, start, stop):
    """Sums of each token's rows, two rows at a time."""
    A, D = place.shape[1], out.shape[1]
    for t in range(start, stop):
        if A % 2:
            out[t] = parts[place[t, A - 1]]
        for a in range(0, A - 1, 2):
            row, other, own = parts[place[t, a]], parts[place[t, a + 1]], out[t]
            if a == 0 and A % 2 == 0:
                for d in range(D):
                    own[d] = row[d] + other[d]
            else:
                for d in range(D):
                    own[d] += row[d] + other[d]
