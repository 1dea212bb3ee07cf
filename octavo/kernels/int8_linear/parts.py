"""Pieces of INT8 products for loops on the CPU: rounding a row, the sum of products of codes, scales put back."""

from __future__ import annotations

import numpy as np

from octavo.kernels.compiled import part
from octavo.kernels.int8_linear.ref import LEAST, SHARE, TOP

_TOP, _SHARE, _LEAST = np.float32(TOP), np.float32(SHARE), np.float32(LEAST)
_MAGNITUDE, _INFINITY = np.int32(0x7FFFFFFF), np.int32(0x7F800000)  # bits of a number without its sign; of infinity
_ZERO = np.float32(0.0)


@part
def rounded(row, codes):
    """Codes of a row into `codes` (int8 or int16), and its scale; see `round_rows`.

    Bits of positive numbers order like the numbers, and NaN above infinity, so that the maximum vectorises.
    """
    bits, top = row.view(np.int32), np.int32(0)
    for n in range(len(bits)):
        top = max(top, np.int32(bits[n] & _MAGNITUDE))
    most = np.int32(top).view(np.float32)
    if top >= _INFINITY or most < _LEAST:
        for n in range(len(row)):
            codes[n] = 0
        return np.float32(np.nan) if top >= _INFINITY else _ZERO
    inverse = _TOP / most
    for n in range(len(row)):
        codes[n] = np.int32(np.rint(row[n] * inverse))
    return most * _SHARE


@part
def code_dot(a, b):
    """Sum of products of two rows of codes: int32 at every step, which compilers turn into multiply-add of pairs."""
    total = np.int32(0)
    for n in range(len(a)):
        total = np.int32(total + np.int32(np.int32(a[n]) * np.int32(b[n])))
    return total


@part
def scaled(total, own, factor):
    """A sum of products of codes with the scales of its input's and of its weight's row."""
    return np.float32(total) * own * factor


@part
def code_products(codes, scale, weight, factor, out, start, stop):
    """Columns start .. stop of `linear` of rounded rows into `out` [T, O]."""
    for o in range(start, stop):
        for t in range(len(codes)):
            out[t, o] = scaled(code_dot(weight[o], codes[t]), scale[t], factor[o])


@part
def row_of_sums(sums, own, factor, out):
    """The row of results that a row of sums [O] stands for."""
    for o in range(len(sums)):
        out[o] = scaled(sums[o], own, factor[o])
