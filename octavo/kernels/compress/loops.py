"""Raw rows of a compressor, and their pooling, as loops on the CPU: FP32, no gradient."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.floats import exp


def place(projected: Tensor, bias: Tensor, *, first: int) -> Tensor:
    """See the package docstring for the contract."""
    out = np.empty(tuple(projected.shape), dtype=np.float32)
    for b in range(len(out)):
        run = partial(_place, projected[b].contiguous().numpy(), bias.numpy(), first, out[b])
        in_halves(run, out.shape[1])
    return torch.from_numpy(out)


def pool(values: Tensor, scores: Tensor, *, ratio: int, overlap: bool, has_previous: bool) -> Tensor:
    """See the package docstring for the contract."""
    B, n, w = values.shape
    made = np.empty((B, n // ratio - has_previous, w // 2 if overlap else w), dtype=np.float32)
    for b in range(B):
        given = values[b].contiguous().numpy(), scores[b].contiguous().numpy()
        in_halves(partial(_pool, *given, ratio, overlap, int(has_previous), made[b]), made.shape[1])
    return torch.from_numpy(made)


@loop
def _place(projected, bias, first, out, start, stop):
    ratio, width = bias.shape
    plain = projected.shape[1] - width
    for s in range(start, stop):
        row, own, given = bias[(first + s) % ratio], out[s, plain:], projected[s, plain:]
        out[s, :plain] = projected[s, :plain]
        for n in range(width):
            own[n] = given[n] + row[n]


@loop
def _pool(values, scores, ratio, overlap, skipped, made, start, stop):
    """Channels side by side: the highest score of each, then the sums of shares and of what they weigh."""
    K = made.shape[1]
    top, total = np.empty(K, dtype=np.float32), np.empty(K, dtype=np.float32)
    for g in range(start, stop):
        end = (g + skipped + 1) * ratio
        begin = end - ratio
        low = max(begin - ratio, 0) if overlap else begin  # with overlap the group before it counts too
        top[:], total[:], made[g] = np.float32(-np.inf), np.float32(0.0), np.float32(0.0)
        for r in range(low, end):
            shift = K if overlap and r >= begin else 0
            _raise(scores[r, shift : shift + K], top)
        for r in range(low, end):
            shift = K if overlap and r >= begin else 0
            _weigh(values[r, shift : shift + K], scores[r, shift : shift + K], top, total, made[g])
        _divide(made[g], total)


@part
def _raise(row, top):
    for c in range(len(row)):
        top[c] = row[c] if row[c] > top[c] else top[c]


@part
def _weigh(row, scores, top, total, out):
    for c in range(len(row)):
        share = exp(scores[c] - top[c])
        total[c] += share
        out[c] += share * row[c]


@part
def _divide(row, total):
    for c in range(len(row)):
        row[c] /= total[c]
