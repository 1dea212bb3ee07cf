"""Walsh-Hadamard transform as butterflies within a row, on the CPU: FP32, no gradient."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, part


def hadamard(x: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    given = x.reshape(-1, x.shape[-1]).numpy()
    out = np.empty(given.shape, dtype=np.float32)
    in_halves(partial(butterflies, given, np.float32(x.shape[-1] ** -0.5), out), len(out))
    return torch.from_numpy(out).view(x.shape)


@part
def butterflies(x, scale, out, start, stop):
    """Rows start .. stop of the transform of x [R, N] into `out`, which may be x."""
    N = x.shape[1]
    for r in range(start, stop):
        row = out[r]
        for n in range(N):
            row[n] = x[r, n] * scale
        span = 1
        while span < N:
            for begin in range(0, N, 2 * span):
                for n in range(begin, begin + span):
                    low, high = row[n], row[n + span]
                    row[n], row[n + span] = low + high, low - high
            span *= 2
