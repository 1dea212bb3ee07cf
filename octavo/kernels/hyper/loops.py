"""Hyper-connection mixing as loops over tokens: FP32, no gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop


def gates(
    streams: Tensor, raw: Tensor, base: Tensor, scale: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """pre [T, M], post [T, M] and comb [T, M, M] from the raw product of the streams with `fn`."""
    T, M, _ = streams.shape
    pre, post, comb = (np.empty(shape, dtype=np.float32) for shape in ((T, M), (T, M), (T, M, M)))
    _gates(
        streams.reshape(T, -1).numpy(), raw.numpy(), base.numpy(), scale.numpy(), iters, np.float32(eps),
        np.float32(norm_eps), pre, post, comb,
    )  # fmt: skip
    return torch.from_numpy(pre), torch.from_numpy(post), torch.from_numpy(comb)


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """post (x) y + comb^T streams, [T, M, D]."""
    out = np.empty(tuple(streams.shape), dtype=np.float32)
    _write(streams.contiguous().numpy(), y.contiguous().numpy(), post.numpy(), comb.numpy(), out)
    return torch.from_numpy(out)


def read(streams: Tensor, pre: Tensor) -> Tensor:
    """Weighted sum of the streams, [T, D]."""
    out = np.empty((streams.shape[0], streams.shape[2]), dtype=np.float32)
    _read(streams.contiguous().numpy(), pre.numpy(), out)
    return torch.from_numpy(out)


@loop
def _gates(streams, raw, base, scale, iters, eps, norm_eps, pre, post, comb):
    T, M = pre.shape
    one = np.float32(1.0)
    for t in range(T):
        square = np.float32(0.0)
        for d in range(streams.shape[1]):
            square += streams[t, d] * streams[t, d]
        rho = one / np.float32(math.sqrt(square / np.float32(streams.shape[1]) + norm_eps))
        for j in range(M):
            pre[t, j] = one / (one + np.float32(math.exp(-(raw[t, j] * rho * scale[0] + base[j])))) + eps
            at = M + j
            post[t, j] = np.float32(2.0) / (one + np.float32(math.exp(-(raw[t, at] * rho * scale[1] + base[at]))))
        c = comb[t]
        for i in range(M):
            top = np.float32(-np.inf)
            for j in range(M):
                at = 2 * M + i * M + j
                c[i, j] = raw[t, at] * rho * scale[2] + base[at]
                top = max(top, c[i, j])
            total = np.float32(0.0)
            for j in range(M):
                c[i, j] = np.float32(math.exp(c[i, j] - top))
                total += c[i, j]
            for j in range(M):
                c[i, j] = c[i, j] / total + eps
        for step in range(iters):
            if step:
                for i in range(M):
                    total = eps
                    for j in range(M):
                        total += c[i, j]
                    for j in range(M):
                        c[i, j] /= total
            for j in range(M):
                total = eps
                for i in range(M):
                    total += c[i, j]
                for i in range(M):
                    c[i, j] /= total


@loop
def _write(streams, y, post, comb, out):
    T, M, D = streams.shape
    for t in range(T):
        for k in range(M):
            for d in range(D):
                out[t, k, d] = post[t, k] * y[t, d]
            for j in range(M):
                share = comb[t, j, k]
                for d in range(D):
                    out[t, k, d] += share * streams[t, j, d]


@loop
def _read(streams, pre, out):
    T, M, D = streams.shape
    for t in range(T):
        for d in range(D):
            out[t, d] = pre[t, 0] * streams[t, 0, d]
        for j in range(1, M):
            for d in range(D):
                out[t, d] += pre[t, j] * streams[t, j, d]
