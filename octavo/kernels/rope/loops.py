"""Rotation as a loop: FP32, no gradient, one row of cos and sin for a run of rows of x; with the RMS norm before it.
Tables of a handful of positions.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.linear.loops import dot

_NO_WEIGHT = np.empty(0, dtype=np.float32)


FEW = 8  # positions up to which a table is made here


def table(positions: Tensor, inv_freq: Tensor) -> tuple[Tensor, Tensor]:
    """`rope_table` of a handful of positions (int64), FP32."""
    shape = (*positions.shape, len(inv_freq))
    cos, sin = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    pairs = len(inv_freq)
    _table(positions.reshape(-1).numpy(), inv_freq.numpy(), cos.reshape(-1, pairs), sin.reshape(-1, pairs))
    return torch.from_numpy(cos), torch.from_numpy(sin)


def fits(x: Tensor, cos: Tensor) -> bool:
    """Whether the leading dimensions of `cos` are the first ones of x, ones behind them, so that every table row serves
    a run of x's rows."""
    lead, table = x.shape[:-1], cos.shape[:-1]
    if len(lead) != len(table) or cos.dtype != torch.float32:
        return False
    same = 0
    while same < len(lead) and lead[same] == table[same]:
        same += 1
    return all(n == 1 for n in table[same:])


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool) -> Tensor:
    """See the package docstring for the contract."""
    return _run(x, cos, sin, np.float32(-1.0 if inverse else 1.0), _NO_WEIGHT, np.float32(-1.0))


def norm_rotate(x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, *, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    return _run(x, cos, sin, np.float32(1.0), _NO_WEIGHT if weight is None else weight.numpy(), np.float32(eps))


def _run(x: Tensor, cos: Tensor, sin: Tensor, sign: np.float32, weight: np.ndarray, eps: np.float32) -> Tensor:
    """`eps` below 0: no norm."""
    pairs = cos.shape[-1]
    rows = cos.numel() // pairs
    given = x.reshape(rows, -1, x.shape[-1]).numpy()
    out = np.empty(given.shape, dtype=np.float32)
    table = cos.reshape(rows, pairs).numpy(), sin.reshape(rows, pairs).numpy()
    in_halves(partial(turn, given, *table, sign, weight, eps, out), rows)
    return torch.from_numpy(out).view(x.shape)


@loop
def _table(positions, inv_freq, cos, sin):
    for t in range(len(positions)):
        for p in range(len(inv_freq)):
            angle = positions[t] * inv_freq[p]
            cos[t, p], sin[t, p] = np.float32(math.cos(angle)), np.float32(math.sin(angle))


@part
def turn(x, cos, sin, sign, weight, eps, out, start, stop):
    """Tokens start .. stop of x [T, R, N], normed if `eps` is not negative, rotated into `out`, which may be x."""
    R, N = x.shape[1:]
    P = cos.shape[1]
    first = N - 2 * P
    for t in range(start, stop):
        for r in range(R):
            given, row = x[t, r], out[t, r]
            if eps >= 0:
                scale = np.float32(1.0) / np.float32(math.sqrt(dot(given, given) / np.float32(N) + eps))
                for n in range(N):
                    row[n] = given[n] * scale
                if len(weight):
                    for n in range(N):
                        row[n] *= weight[n]
            else:
                for n in range(N):
                    row[n] = given[n]
            for p in range(P):
                even, odd = row[first + 2 * p], row[first + 2 * p + 1]
                s = sign * sin[t, p]
                row[first + 2 * p] = even * cos[t, p] - odd * s
                row[first + 2 * p + 1] = even * s + odd * cos[t, p]
