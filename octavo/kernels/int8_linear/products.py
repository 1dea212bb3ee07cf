"""Products of many rows of codes: INT8 in, INT32 out, exact on every processor.

Covers: oneDNN's INT8 product where it is exact, an FP32 product of the codes elsewhere. Without VNNI, x86 adds pairs of
products in 16 bits, and oneDNN's product (as FBGEMM's) is wrong wherever two of them pass 32,767: for rows of 127, by
nearly all of it. Does not cover: a handful of rows (`loops`), scales.
"""

from __future__ import annotations

import platform
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels.int8_linear.ref import TOP

_EXACT_INPUTS = 2**24 // TOP**2  # inputs up to which FP32 holds every partial sum
_PROBES = ((1, 16, 16), (5, 96, 160), (40, 256, 96))  # rows, inputs, outputs: edges of the library's blocks among them


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a b^T of codes [M, N] and [O, N] -> INT32 [M, O], into `out` if given; M from 1."""
    if not units_are_exact():
        made = _by_fp32(a, b)
        return made if out is None else out.copy_(made)
    return _by_units(a, b) if out is None else torch.ops.aten._int_mm.out(a, b.T, out=out)


@lru_cache(maxsize=1)
def units_are_exact() -> bool:
    """Whether this processor's INT8 product through oneDNN gives exact sums, found out once with the largest codes.

    Only x86 is asked: elsewhere torch may run a plain loop, which is exact and slow.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    return all(_is_exact(*sizes) for sizes in _PROBES)


def _is_exact(rows: int, inputs: int, outputs: int) -> bool:
    a, b = (torch.full((n, inputs), TOP, dtype=torch.int8) for n in (rows, outputs))
    a[rows // 2 :] = -TOP
    return torch.equal(_by_units(a, b), _by_fp32(a, b))


def _by_units(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.aten._int_mm.default(a, b.T)


def _by_fp32(a: Tensor, b: Tensor) -> Tensor:
    """The product in FP32, exact for so many inputs at a time that no partial sum is rounded."""
    total = torch.zeros(a.shape[0], b.shape[0], dtype=torch.int32)
    for at in range(0, a.shape[1], _EXACT_INPUTS):
        some = slice(at, at + _EXACT_INPUTS)
        total += F.linear(a[:, some].float(), b[:, some].float()).to(torch.int32)
    return total
