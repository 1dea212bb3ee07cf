"""Hyper-connection mixing as loops over tokens, on the CPU: FP32, no gradient.

Covers: the coefficients from the raw product (`gates`), `read`, `write`, and all that begins a sublayer for a handful
of tokens (`enter`). Does not cover: the raw product of many tokens, which torch does better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, part
from octavo.kernels.linear.loops import dot


def gates(
    streams: Tensor, raw: Tensor, base: Tensor, scale: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """pre [T, M], post [T, M] and comb [T, M, M] from the raw product of the streams with `fn`."""
    T, M, _ = streams.shape
    pre, post, comb = (np.empty(shape, dtype=np.float32) for shape in ((T, M), (T, M), (T, M, M)))
    run = partial(
        _gates, streams.reshape(T, -1).numpy(), raw.numpy(), base.numpy(), scale.numpy(), iters, np.float32(eps),
        np.float32(norm_eps), pre, post, comb,
    )  # fmt: skip
    in_halves(run, T)
    return torch.from_numpy(pre), torch.from_numpy(post), torch.from_numpy(comb)


def enter(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x [T, D], post [T, M] and comb [T, M, M] of a handful of tokens."""
    T, M, D = streams.shape
    x, post, comb = (np.empty(shape, dtype=np.float32) for shape in ((T, D), (T, M), (T, M, M)))
    enter_all(
        streams.contiguous().numpy(), fn.numpy(), base.numpy(), scale.numpy(), gain.numpy(), iters, np.float32(eps),
        np.float32(norm_eps), x, post, comb,
    )  # fmt: skip
    return torch.from_numpy(x), torch.from_numpy(post), torch.from_numpy(comb)


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, body: Callable[..., None]) -> Tensor:
    """post (x) y + comb^T streams, [T, M, D]; `body` writes some tokens, as `write_part` does."""
    out = np.empty(tuple(streams.shape), dtype=np.float32)
    given = streams.contiguous().numpy(), y.contiguous().numpy(), post.numpy(), comb.numpy()
    in_halves(partial(body, *given, out), len(out))
    return torch.from_numpy(out)


def read(streams: Tensor, pre: Tensor) -> Tensor:
    """Weighted sum of the streams, [T, D]."""
    out = np.empty((streams.shape[0], streams.shape[2]), dtype=np.float32)
    in_halves(partial(read_part, streams.contiguous().numpy(), pre.numpy(), out), len(out))
    return torch.from_numpy(out)


@part
def _gates(streams, raw, base, scale, iters, eps, norm_eps, pre, post, comb, start, stop):
    M = pre.shape[1]
    one, two = np.float32(1.0), np.float32(2.0)
    by_row, by_column = np.empty(M, dtype=np.float32), np.empty(M, dtype=np.float32)
    for t in range(start, stop):
        square = dot(streams[t], streams[t])
        rho = one / np.float32(math.sqrt(square / np.float32(streams.shape[1]) + norm_eps))
        for j in range(M):
            at = M + j
            pre[t, j] = one / (one + np.float32(math.exp(-(raw[t, j] * rho * scale[0] + base[j])))) + eps
            post[t, j] = two / (one + np.float32(math.exp(-(raw[t, at] * rho * scale[1] + base[at]))))
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
        _sinkhorn(c, iters, eps, by_row, by_column)


@part
def _sinkhorn(c, iters, eps, by_row, by_column):
    """Column steps with row steps between. What they leave of c[i, j] is by_row[i] c[i, j] by_column[j]."""
    M = len(c)
    by_row[:], by_column[:] = np.float32(1.0), np.float32(1.0)
    for step in range(iters):
        if step:
            for i in range(M):
                total = np.float32(0.0)
                for j in range(M):
                    total += c[i, j] * by_column[j]
                by_row[i] /= by_row[i] * total + eps
        for j in range(M):
            total = np.float32(0.0)
            for i in range(M):
                total += c[i, j] * by_row[i]
            by_column[j] /= by_column[j] * total + eps
    for i in range(M):
        for j in range(M):
            c[i, j] *= by_row[i] * by_column[j]


@part
def enter_all(streams, fn, base, scale, gain, iters, eps, norm_eps, x, post, comb):
    """All that begins a sublayer, for every token."""
    T, M, D = streams.shape
    flat = streams.reshape(T, M * D)
    raw, pre = np.empty((T, len(fn)), dtype=np.float32), np.empty((T, M), dtype=np.float32)
    for o in range(len(fn)):
        for t in range(T):
            raw[t, o] = dot(fn[o], flat[t])
    _gates(flat, raw, base, scale, iters, eps, norm_eps, pre, post, comb, 0, T)
    read_part(streams, pre, x, 0, T)
    for t in range(T):
        rms = np.float32(1.0) / np.float32(math.sqrt(dot(x[t], x[t]) / np.float32(D) + norm_eps))
        for d in range(D):
            x[t, d] *= rms * gain[d]


@part
def write_part(streams, y, post, comb, out, start, stop):
    """Tokens start .. stop of `write` into `out`."""
    M, D = out.shape[1:]
    for t in range(start, stop):
        for k in range(M):
            for d in range(D):
                out[t, k, d] = post[t, k] * y[t, d]
            for j in range(M):
                share = comb[t, j, k]
                for d in range(D):
                    out[t, k, d] += share * streams[t, j, d]


@part
def read_part(streams, pre, out, start, stop):
    """Tokens start .. stop of `read` into `out`."""
    M, D = streams.shape[1:]
    for t in range(start, stop):
        for d in range(D):
            out[t, d] = pre[t, 0] * streams[t, 0, d]
        for j in range(1, M):
            for d in range(D):
                out[t, d] += pre[t, j] * streams[t, j, d]
