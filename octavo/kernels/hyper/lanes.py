"""Four streams of many tokens on the CPU: FP32, no gradient; tokens stand side by side in vector registers.

Covers: all that begins a sublayer behind the raw product (`enter`), and the loop for `loops.write`. A token's matrix of
4 x 4 is too small for vectors, so 32 tokens are normalised together. Does not cover: other numbers of streams, a
handful of tokens (`loops`).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.floats import exp, logistic
from octavo.kernels.linear.loops import dot

_STREAMS = 4
_LANES = 32
_ONE, _TWO = np.float32(1.0), np.float32(2.0)


def fits(streams: Tensor) -> bool:
    """Whether these bodies serve the call."""
    return streams.shape[0] >= _LANES and streams.shape[1] == _STREAMS


def enter(
    streams: Tensor, raw: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x [T, D], post [T, 4] and comb [T, 4, 4] from the raw product of the streams with `fn`."""
    T, M, D = streams.shape
    x, post, comb = (np.empty(shape, dtype=np.float32) for shape in ((T, D), (T, M), (T, M, M)))
    run = partial(
        _enter, streams.contiguous().numpy(), raw.numpy(), base.numpy(), scale.numpy(), gain.numpy(), iters,
        np.float32(eps), np.float32(norm_eps), x, post, comb,
    )  # fmt: skip
    in_halves(run, T)
    return torch.from_numpy(x), torch.from_numpy(post), torch.from_numpy(comb)


@loop
def _enter(streams, raw, base, scale, gain, iters, eps, norm_eps, x, post, comb, start, stop):
    D = streams.shape[2]
    m = np.zeros((24, _LANES), dtype=np.float32)
    by_row, by_column = np.empty((4, _LANES), dtype=np.float32), np.empty((4, _LANES), dtype=np.float32)
    for begin in range(start, stop, _LANES):
        n = min(_LANES, stop - begin)
        for i in range(n):
            square, given = np.float32(0.0), streams[begin + i]
            for j in range(4):
                square += dot(given[j], given[j])
            rho = _ONE / np.float32(math.sqrt(square / np.float32(4 * D) + norm_eps))
            for o in range(24):
                m[o, i] = raw[begin + i, o] * (rho * scale[min(o // 4, 2)]) + base[o]
        for o in range(4):
            for i in range(_LANES):
                m[o, i] = logistic(m[o, i]) + eps
        for o in range(4, 8):
            for i in range(_LANES):
                m[o, i] = _TWO * logistic(m[o, i])
        _softmax_rows(m[8:], eps)
        _sinkhorn(m[8:], iters, eps, by_row, by_column)
        for i in range(n):
            t = begin + i
            for j in range(4):
                post[t, j] = m[4 + j, i]
                for k in range(4):
                    comb[t, j, k] = m[8 + 4 * j + k, i] * by_row[j, i] * by_column[k, i]
            _read(streams[t], m[0, i], m[1, i], m[2, i], m[3, i], gain, norm_eps, x[t])


@part
def _softmax_rows(c, eps):
    """c [16, lanes], a token's matrix in a column."""
    for r in range(0, 16, 4):
        c0, c1, c2, c3 = c[r], c[r + 1], c[r + 2], c[r + 3]
        for i in range(_LANES):
            top = max(max(c0[i], c1[i]), max(c2[i], c3[i]))
            e0, e1, e2, e3 = exp(c0[i] - top), exp(c1[i] - top), exp(c2[i] - top), exp(c3[i] - top)
            part = _ONE / (e0 + e1 + e2 + e3)
            c0[i], c1[i], c2[i], c3[i] = e0 * part + eps, e1 * part + eps, e2 * part + eps, e3 * part + eps


@part
def _sinkhorn(c, iters, eps, by_row, by_column):
    """Column steps with row steps between. What they leave of c[i, j] is by_row[i] c[i, j] by_column[j]."""
    by_row[:], by_column[:] = _ONE, _ONE
    for step in range(iters):
        if step:
            for r in range(4):
                _divide(c, 4 * r, 1, by_column, by_row, r, eps)
        for r in range(4):
            _divide(c, r, 4, by_row, by_column, r, eps)


@part
def _divide(c, first, stride, factors, own, r, eps):
    """Divide a row or column, whose factor is own[r], by its sum."""
    for i in range(_LANES):
        total = c[first, i] * factors[0, i] + c[first + stride, i] * factors[1, i]
        total += c[first + 2 * stride, i] * factors[2, i] + c[first + 3 * stride, i] * factors[3, i]
        own[r, i] = own[r, i] / (own[r, i] * total + eps)


@part
def _read(streams, p0, p1, p2, p3, gain, norm_eps, x):
    """The normalised weighted sum of one token's streams."""
    h0, h1, h2, h3 = streams[0], streams[1], streams[2], streams[3]
    square = np.float32(0.0)
    for d in range(len(x)):
        v = p0 * h0[d] + p1 * h1[d] + p2 * h2[d] + p3 * h3[d]
        x[d] = v
        square += v * v
    rms = _ONE / np.float32(math.sqrt(square / np.float32(len(x)) + norm_eps))
    for d in range(len(x)):
        x[d] *= rms * gain[d]


@loop
def write_four(streams, y, post, comb, out, start, stop):
    """Tokens start .. stop of `loops.write` into `out`."""
    for t in range(start, stop):
        h0, h1, h2, h3 = streams[t, 0], streams[t, 1], streams[t, 2], streams[t, 3]
        for k in range(4):
            own, row = out[t, k], y[t]
            p, c0, c1, c2, c3 = post[t, k], comb[t, 0, k], comb[t, 1, k], comb[t, 2, k], comb[t, 3, k]
            for d in range(len(row)):
                own[d] = p * row[d] + c0 * h0[d] + c1 * h1[d] + c2 * h2[d] + c3 * h3[d]
