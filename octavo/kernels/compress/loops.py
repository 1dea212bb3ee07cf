"""Raw rows of a compressor as a loop over tokens, and the entries of a few groups, on the CPU: FP32, no gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop


def place(projected: Tensor, bias: Tensor, *, first: int) -> Tensor:
    """See the package docstring for the contract."""
    out = np.empty(tuple(projected.shape), dtype=np.float32)
    _place(projected.contiguous().numpy(), bias.numpy(), first, out)
    return torch.from_numpy(out)


def pool(values: Tensor, scores: Tensor, *, ratio: int, overlap: bool, has_previous: bool) -> Tensor:
    """See the package docstring for the contract."""
    B, n, w = values.shape
    given = np.ascontiguousarray(values.numpy()), np.ascontiguousarray(scores.numpy())
    out = np.empty((B, n // ratio - (overlap and has_previous), w // 2 if overlap else w), dtype=np.float32)
    _pool(*given, ratio, overlap, has_previous, out)
    return torch.from_numpy(out)


@loop
def _pool(values, scores, ratio, overlap, has_previous, out):
    B, g, K = out.shape
    ahead = ratio if overlap and has_previous else 0
    own = K if overlap else 0
    top, total = np.empty(K, dtype=np.float32), np.empty(K, dtype=np.float32)
    for b in range(B):
        for i in range(g):
            stop = ahead + (i + 1) * ratio
            begin = max(stop - 2 * ratio, 0) if overlap else stop - ratio
            row = out[b, i]
            top[:], total[:], row[:] = np.float32(-np.inf), np.float32(0.0), np.float32(0.0)
            for n in range(begin, stop):
                at = own if n >= stop - ratio else 0
                for k in range(K):
                    top[k] = max(top[k], scores[b, n, at + k])
            for n in range(begin, stop):
                at = own if n >= stop - ratio else 0
                for k in range(K):
                    share = np.float32(math.exp(scores[b, n, at + k] - top[k]))
                    total[k] += share
                    row[k] += share * values[b, n, at + k]
            for k in range(K):
                row[k] /= total[k]


@loop
def _place(projected, bias, first, out):
    B, S, both = projected.shape
    ratio, width = bias.shape
    for b in range(B):
        for s in range(S):
            row = bias[(first + s) % ratio]
            for n in range(both - width):
                out[b, s, n] = projected[b, s, n]
            for n in range(width):
                at = both - width + n
                out[b, s, at] = projected[b, s, at] + row[n]
