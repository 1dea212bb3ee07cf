"""Rotation as a loop: FP32, no gradient, one row of cos and sin for a run of rows of x."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop


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
    pairs = cos.shape[-1]
    rows = cos.numel() // pairs
    given = x.reshape(rows, -1, x.shape[-1]).numpy()
    out = np.empty_like(given)
    sign = np.float32(-1.0 if inverse else 1.0)
    _rotate(given, cos.reshape(rows, pairs).numpy(), sin.reshape(rows, pairs).numpy(), sign, out)
    return torch.from_numpy(out).view(x.shape)


@loop
def _rotate(x, cos, sin, sign, out):
    T, R, N = x.shape
    P = cos.shape[1]
    first = N - 2 * P
    for t in range(T):
        for r in range(R):
            for n in range(first):
                out[t, r, n] = x[t, r, n]
            for p in range(P):
                even, odd = x[t, r, first + 2 * p], x[t, r, first + 2 * p + 1]
                s = sign * sin[t, p]
                out[t, r, first + 2 * p] = even * cos[t, p] - odd * s
                out[t, r, first + 2 * p + 1] = even * s + odd * cos[t, p]
