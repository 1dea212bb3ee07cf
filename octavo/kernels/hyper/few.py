"""Hyper-connections of a handful of tokens on the CPU, weights in a pack: FP32, no gradient.

Covers: `begin`, and `cross`: the write of one sublayer and the beginning of the next in one call.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop
from octavo.kernels.hyper.loops import enter_all, write_part

Arrays = tuple[np.ndarray, ...]


def begin(
    streams: Tensor, weights: Arrays, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`enter` with fn, base, scale and gain as arrays."""
    T, M, D = streams.shape
    made = _empty(T, D), _empty(T, M), _empty(T, M, M)
    enter_all(streams.contiguous().numpy(), *weights, iters, np.float32(eps), np.float32(norm_eps), *made)
    x, post, comb = made
    return torch.from_numpy(x), torch.from_numpy(post), torch.from_numpy(comb)


def cross(
    streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, weights: Arrays, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    T, M, D = streams.shape
    made = _empty(T, M, D), _empty(T, D), _empty(T, M), _empty(T, M, M)
    given = streams.contiguous().numpy(), y.contiguous().numpy(), post.numpy(), comb.numpy()
    _cross(*given, *weights, iters, np.float32(eps), np.float32(norm_eps), *made)
    after, x, next_post, next_comb = made
    from_numpy = torch.from_numpy
    return from_numpy(after), from_numpy(x), from_numpy(next_post), from_numpy(next_comb)


def _empty(*shape: int) -> np.ndarray:
    return np.empty(shape, dtype=np.float32)


@loop
def _cross(
    streams, y, post, comb, fn, base, scale, gain, iters, eps, norm_eps, after, x, next_post, next_comb,
):  # fmt: skip
    write_part(streams, y, post, comb, after, 0, len(after))
    enter_all(after, fn, base, scale, gain, iters, eps, norm_eps, x, next_post, next_comb)
