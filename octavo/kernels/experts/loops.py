"""Routed experts of a handful of tokens: each chosen expert's weights are read where they lie. FP32, no gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop


def chosen_only(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, chosen: Tensor, weights: Tensor, limit: float | None
) -> Tensor:
    """See the package docstring for the contract; nothing is rounded on the way."""
    out = np.zeros(tuple(x.shape), dtype=np.float32)
    _experts(
        x.contiguous().numpy(), w1.numpy(), w3.numpy(), w2.numpy(), chosen.numpy(), weights.contiguous().numpy(),
        np.float32(math.inf if limit is None else limit), out,
    )  # fmt: skip
    return torch.from_numpy(out)


@loop
def _experts(x, w1, w3, w2, chosen, weights, limit, out):
    T, D = x.shape
    F = w1.shape[1]
    hidden = np.empty(F, dtype=np.float32)
    for t in range(T):
        for a in range(chosen.shape[1]):
            e = chosen[t, a]
            for f in range(F):
                gate, up = np.float32(0.0), np.float32(0.0)
                for d in range(D):
                    gate += w1[e, f, d] * x[t, d]
                    up += w3[e, f, d] * x[t, d]
                gate, up = min(gate, limit), max(min(up, limit), -limit)
                hidden[f] = gate / (np.float32(1.0) + np.float32(math.exp(-gate))) * up * weights[t, a]
            for d in range(D):
                total = np.float32(0.0)
                for f in range(F):
                    total += w2[e, d, f] * hidden[f]
                out[t, d] += total
