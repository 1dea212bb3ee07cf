"""INT8 products by themselves, on the CPU without gradient: rounding and scales in loops; sums in loops for a handful
of rows, as one product for more. Sums are exact and one loop puts the scales back, so a row gets the same bits either
way.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop
from octavo.kernels.int8_linear.parts import code_dot, rounded, row_of_sums
from octavo.kernels.int8_linear.products import product, units_are_exact
from octavo.kernels.int8_linear.ref import Int8Weight

_FEW = 8  # rows up to which a loop sums where the product is made in FP32; beside INT8 units it pays for one row alone
_LARGE = 1 << 23  # codes in a weight from which it pays to read it on several threads


def linear(x: Tensor, weight: Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    flat = x.reshape(-1, x.shape[-1])
    if not _is_few(len(flat)):
        return results(*round_rows(flat), weight).view(*x.shape[:-1], -1)
    matrix, factor = weight.arrays
    codes, scale = np.empty(flat.shape, dtype=np.int16), np.empty(len(flat), dtype=np.float32)
    _round(flat.contiguous().numpy(), codes, scale, 0, len(flat))
    return _scaled(_sums(codes, matrix), scale, factor).view(*x.shape[:-1], -1)


def grouped(x: Tensor, weight: Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    T, G, N = x.shape
    codes, scale = round_rows(x.reshape(T * G, N))
    codes, scale = codes.view(T, G, N), scale.view(T, G)
    parts = zip(weight.codes.view(G, -1, N), weight.scale.view(G, -1), strict=True)
    made = [
        results(codes[:, g].contiguous(), scale[:, g].contiguous(), Int8Weight(*own)) for g, own in enumerate(parts)
    ]
    return torch.cat(made, dim=1)


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """`ref.round_rows` of x [M, N]."""
    codes, scale = torch.empty(x.shape, dtype=torch.int8), torch.empty(len(x))
    in_halves(partial(_round, x.contiguous().numpy(), codes.numpy(), scale.numpy()), len(x))
    return codes, scale


def results(codes: Tensor, scale: Tensor, weight: Int8Weight) -> Tensor:
    """FP32 results [M, O] of rounded rows."""
    matrix, factor = weight.arrays
    sums = _sums(codes.numpy(), matrix) if _is_few(len(codes)) else product(codes, weight.codes).numpy()
    return _scaled(sums, scale.numpy(), factor)


def _is_few(rows: int) -> bool:
    return rows <= (1 if units_are_exact() else _FEW)


def _sums(codes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    sums = np.empty((len(codes), len(matrix)), dtype=np.int32)
    if matrix.size < _LARGE:
        _dots(codes, matrix, sums, 0, len(matrix))
    else:
        in_halves(partial(_dots, codes, matrix, sums), len(matrix))
    return sums


def _scaled(sums: np.ndarray, scale: np.ndarray, factor: np.ndarray) -> Tensor:
    out = np.empty(sums.shape, dtype=np.float32)
    in_halves(partial(_scale, sums, scale, factor, out), len(out))
    return torch.from_numpy(out)


@loop
def _round(x, codes, scale, start, stop):
    for r in range(start, stop):
        scale[r] = rounded(x[r], codes[r])


@loop
def _dots(codes, matrix, sums, start, stop):
    for o in range(start, stop):
        for t in range(len(codes)):
            sums[t, o] = code_dot(matrix[o], codes[t])


@loop
def _scale(sums, scale, factor, out, start, stop):
    for r in range(start, stop):
        row_of_sums(sums[r], scale[r], factor, out[r])
