"""Choice of experts as a loop over tokens: FP32, no gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.compiled import part

_NO_BIAS = np.empty(0, dtype=np.float32)


def choose(
    raw: Tensor, *, top: int, scale: float, normalise: bool, bias: Tensor | None, table_rows: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Experts [T, A], weights [T, A] and scores [T, X] from the router's raw products [T, X]."""
    T = raw.shape[0]
    given = table_rows is not None
    library = native.library()
    if library is not None:
        chosen = torch.empty(T, top, dtype=torch.int64) if table_rows is None else table_rows.contiguous()
        values, shares = raw.clone(memory_format=torch.contiguous_format), torch.empty(chosen.shape)
        library.octavo_step_choose(
            T, raw.shape[1], chosen.shape[1], normalise, scale, None if bias is None else bias.data_ptr(), given,
            values.data_ptr(), chosen.data_ptr(), shares.data_ptr(),
        )  # fmt: skip
        return chosen, shares, values
    experts = table_rows.numpy() if table_rows is not None else np.empty((T, top), dtype=np.int64)
    weights, scores = np.empty(experts.shape, dtype=np.float32), np.empty(tuple(raw.shape), dtype=np.float32)
    choice(
        raw.contiguous().numpy(), _NO_BIAS if bias is None else bias.numpy(), given, normalise, np.float32(scale),
        experts, weights, scores,
    )  # fmt: skip
    chosen = table_rows if table_rows is not None else torch.from_numpy(experts)
    return chosen, torch.from_numpy(weights), torch.from_numpy(scores)


@part
def choice(raw, bias, given, normalise, scale, experts, weights, scores):
    """Scores of the raw products; experts, unless `given`, and their weights."""
    T, X = raw.shape
    A = experts.shape[1]
    for t in range(T):
        for e in range(X):
            z = raw[t, e]
            soft = max(z, np.float32(0.0)) + np.float32(math.log1p(math.exp(-abs(z))))
            scores[t, e] = np.float32(math.sqrt(soft))
        if not given:
            for a in range(A):
                best, found = np.float32(-np.inf), -1
                for e in range(X):
                    taken = False
                    for b in range(a):
                        taken = taken or experts[t, b] == e
                    rank = scores[t, e] + (bias[e] if len(bias) else np.float32(0.0))
                    if not taken and (found < 0 or rank > best):
                        best, found = rank, e
                experts[t, a] = found
        total = np.float32(0.0)
        for a in range(A):
            weights[t, a] = scores[t, experts[t, a]]
            total += weights[t, a]
        factor = scale / max(total, np.float32(1e-20)) if normalise else scale
        for a in range(A):
            weights[t, a] *= factor
