"""A mixture of experts as one loop, for a handful of tokens on the CPU: FP32, no gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop
from octavo.kernels.experts.loops import everyone, listed_experts
from octavo.kernels.linear.loops import products
from octavo.kernels.route.loops import choice

_NO_BIAS = np.empty(0, dtype=np.float32)


def mixture(
    x: Tensor,
    weights: tuple[np.ndarray, ...],
    *,
    top: int,
    scale: float,
    normalise: bool,
    limit: float | None,
    bias: Tensor | None,
    table_rows: Tensor | None,
) -> Tensor:
    """See the package docstring for the contract."""
    given = table_rows is not None
    chosen = table_rows.numpy() if table_rows is not None else np.empty((x.shape[0], top), dtype=np.int64)
    out = np.empty(tuple(x.shape), dtype=np.float32)
    gate, w1, w3, w2, s1, s3, s2 = weights
    _mixture(
        x.contiguous().numpy(), gate, w1, w3, w2, s1, s3, s2, _NO_BIAS if bias is None else bias.numpy(), given,
        normalise, np.float32(scale), np.float32(math.inf if limit is None else limit), chosen, out,
    )  # fmt: skip
    return torch.from_numpy(out)


@loop
def _mixture(x, gate, w1, w3, w2, s1, s3, s2, bias, given, normalise, scale, limit, chosen, out):
    T, X = len(x), len(gate)
    raw, scores = np.empty((T, X), dtype=np.float32), np.empty((T, X), dtype=np.float32)
    shares = np.empty(chosen.shape, dtype=np.float32)
    products(x, gate, raw, 0, X)
    choice(raw, bias, given, normalise, scale, chosen, shares, scores)
    out[:] = np.float32(0.0)
    listed_experts(x, w1, w3, w2, chosen, shares, limit, out)
    everyone(x, s1, s3, s2, limit, out)
