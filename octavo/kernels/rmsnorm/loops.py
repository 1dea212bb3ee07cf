"""RMS normalisation as a loop over rows: FP32, no gradient."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, part

_NO_WEIGHT = np.empty(0, dtype=np.float32)


def rmsnorm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    flat = x.reshape(-1, x.shape[-1]).numpy()
    out = np.empty(flat.shape, dtype=np.float32)
    in_halves(partial(norm, flat, _NO_WEIGHT if weight is None else weight.numpy(), np.float32(eps), out), len(out))
    return torch.from_numpy(out).view(x.shape)


@part
def norm(x, weight, eps, out, start, stop):
    """Rows start .. stop of the normalised x [R, N] into `out`, which may be x."""
    N = x.shape[1]
    for r in range(start, stop):
        square = np.float32(0.0)
        for n in range(N):
            square += x[r, n] * x[r, n]
        scale = np.float32(1.0) / np.float32(math.sqrt(square / np.float32(N) + eps))
        if len(weight):
            for n in range(N):
                out[r, n] = x[r, n] * scale * weight[n]
        else:
            for n in range(N):
                out[r, n] = x[r, n] * scale
