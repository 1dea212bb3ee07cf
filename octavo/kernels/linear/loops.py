"""Products of a handful of rows with a weight as one pass over the weight: FP32, no gradient. Compiled code where it is
there (`octavo.kernels.native`), else numba's loops, which other loops are made of too."""

from __future__ import annotations

import ctypes
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import dispatch, native
from octavo.kernels.compiled import in_halves, loop, part

_LARGE = 1 << 22  # numbers in a weight from which it pays to read it on several threads: below, waking one takes longer


def fits(x: Tensor, *weights: Tensor, tokens: int | None = None) -> bool:
    """Whether this body serves the call; `tokens` defaults to the rows of x."""
    if not dispatch.loops_on_cpu(x, tokens=x.numel() // x.shape[-1] if tokens is None else tokens):
        return False
    return all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in weights)


def linear(x: Tensor, *weights: Tensor) -> Tensor:
    """Results of all weights side by side, [..., sum O_i]."""
    library = native.library()
    if library is not None:
        return _compiled(library, x, weights)
    given = x.reshape(-1, x.shape[-1]).numpy()
    arrays = [weight.numpy() for weight in weights]
    out = np.empty((given.shape[0], sum([len(array) for array in arrays])), dtype=np.float32)
    if len(arrays) > 1:
        _several(given, tuple(arrays), out)
    elif arrays[0].size < _LARGE:
        products(given, arrays[0], out, 0, out.shape[1])
    else:
        in_halves(partial(products, given, arrays[0], out), out.shape[1])
    made = torch.from_numpy(out)
    return made if x.dim() == 2 else made.view(*x.shape[:-1], -1)


def _compiled(library: ctypes.CDLL, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """`linear` by compiled code, which shares the weights out among threads."""
    flat, count, rows = x.reshape(-1, x.shape[-1]).contiguous(), len(weights), [len(weight) for weight in weights]
    out = torch.empty(len(flat), sum(rows))
    at, sizes = (ctypes.c_void_p * count)(*[w.data_ptr() for w in weights]), (ctypes.c_int64 * count)(*rows)
    library.octavo_step_products(
        torch.get_num_threads(), len(flat), flat.shape[1], count, flat.data_ptr(), ctypes.addressof(at),
        ctypes.addressof(sizes), out.data_ptr(),
    )  # fmt: skip
    return out if x.dim() == 2 else out.view(*x.shape[:-1], -1)


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    T, G, N = x.shape
    library = native.library()
    if library is not None:
        x, made = x.contiguous(), torch.empty(T, len(weight))
        library.octavo_step_grouped(
            torch.get_num_threads(), T, G, len(weight) // G, N, x.data_ptr(), weight.data_ptr(), made.data_ptr()
        )
        return made
    out = np.empty((T, weight.shape[0]), dtype=np.float32)
    grouped_products(x.contiguous().numpy(), weight.numpy().reshape(G, -1, N), out)
    return torch.from_numpy(out)


@part
def dot(a, b):
    """Sum of products of two rows."""
    total = np.float32(0.0)
    for n in range(len(a)):
        total += a[n] * b[n]
    return total


@part
def products(x, weight, out, start, stop):
    """Columns start .. stop of x W^T into `out` [T, O]."""
    for o in range(start, stop):
        for t in range(len(x)):
            out[t, o] = dot(weight[o], x[t])


@loop
def _several(x, weights, out):
    at = 0
    for weight in weights:
        for o in range(len(weight)):
            for t in range(len(x)):
                out[t, at + o] = dot(weight[o], x[t])
        at += len(weight)


@part
def grouped_products(x, weight, out):
    """`grouped_linear` of x [T, G, N] and weight [G, R, N] into `out` [T, G R]."""
    R = weight.shape[1]
    for g in range(len(weight)):
        for r in range(R):
            for t in range(len(x)):
                out[t, g * R + r] = dot(weight[g, r], x[t, g])
