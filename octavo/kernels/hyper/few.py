"""Hyper-connections of a handful of tokens on the CPU, weights in a pack: FP32, no gradient.

Covers: `begin`; `cross`: the write of one sublayer and the beginning of the next in one call; `finish`, what the head
reads.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop
from octavo.kernels.hyper.loops import enter_all, read_part, write_part
from octavo.kernels.linear.loops import dot, products
from octavo.kernels.rmsnorm.loops import norm

Arrays = tuple[np.ndarray, ...]


def begin(
    streams: Tensor, weights: Arrays, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`enter` with fn, base, scale and gain as arrays."""
    T, M, D = streams.shape
    fn, base, scale, gain = weights
    x, post, comb = _empty(T, D), _empty(T, M), _empty(T, M, M)
    enter_all(
        streams.contiguous().numpy(), fn, base, scale, gain, iters, np.float32(eps), np.float32(norm_eps), x, post, comb
    )
    return torch.from_numpy(x), torch.from_numpy(post), torch.from_numpy(comb)


def cross(
    streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, weights: Arrays, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    T, M, D = streams.shape
    fn, base, scale, gain = weights
    after, x, next_post, next_comb = _empty(T, M, D), _empty(T, D), _empty(T, M), _empty(T, M, M)
    _cross(
        streams.contiguous().numpy(), y.contiguous().numpy(), post.numpy(), comb.numpy(), fn, base, scale, gain, iters,
        np.float32(eps), np.float32(norm_eps), after, x, next_post, next_comb,
    )  # fmt: skip
    from_numpy = torch.from_numpy
    return from_numpy(after), from_numpy(x), from_numpy(next_post), from_numpy(next_comb)


def finish(streams: Tensor, weights: Arrays, *, eps: float, norm_eps: float) -> Tensor:
    """See the package docstring for the contract."""
    x = _empty(streams.shape[0], streams.shape[2])
    fn, base, scale, gain = weights
    _finish(streams.contiguous().numpy(), fn, base, scale, gain, np.float32(eps), np.float32(norm_eps), x)
    return torch.from_numpy(x)


def _empty(*shape: int) -> np.ndarray:
    return np.empty(shape, dtype=np.float32)


@loop
def _finish(streams, fn, base, scale, gain, eps, norm_eps, x):
    T, M, D = streams.shape
    flat, raw, one = streams.reshape(T, M * D), np.empty((T, M), dtype=np.float32), np.float32(1.0)
    products(flat, fn, raw, 0, M)
    for t in range(T):
        rho = one / np.float32(math.sqrt(dot(flat[t], flat[t]) / np.float32(M * D) + norm_eps))
        for j in range(M):
            raw[t, j] = one / (one + np.float32(math.exp(-(raw[t, j] * rho * scale[0] + base[j])))) + eps
    read_part(streams, raw, x, 0, T)
    norm(x, gain, norm_eps, x, 0, T)


@loop
def _cross(
    streams, y, post, comb, fn, base, scale, gain, iters, eps, norm_eps, after, x, next_post, next_comb,
):  # fmt: skip
    write_part(streams, y, post, comb, after, 0, len(after))
    enter_all(after, fn, base, scale, gain, iters, eps, norm_eps, x, next_post, next_comb)
