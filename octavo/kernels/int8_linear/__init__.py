"""Linear maps whose weights are INT8 with one scale a row, and whose inputs are rounded so on the way.

Contract: `round_rows(x [..., N]) -> (codes int8 [..., N], scale FP32 [...])`: scale = max |row| / 127, code = row *
(127 / max |row|) to the nearest, ties to even: -127 .. 127. Rows that nowhere reach 2^-100 become zeros with scale 0; a
row with NaN or infinity gets codes 0 and scale NaN. `round_weight(weight [..., O, N]) -> Int8Weight` does so by output
row; ValueError for NaN, infinity, or more than 133,144 inputs (sums could leave INT32).
`int8_linear(x [..., N] FP32, weight [O, N]) -> [..., O] FP32`: FP32(sum of products of codes) * scale of the input's
row * scale of the weight's row. The sum is exact in every body and on every processor, and a row's result does not
depend on the other rows. A row with NaN or infinity gives NaN.
`int8_grouped(x [T, G, N], weight [G * R, N]) -> [T, G * R]`: rows g R .. g R + R - 1 of the weight read group g; each
group is rounded by itself. ValueError for another dtype or width of x. No gradient. Empty leading dimensions give an
empty result. Not in place.

Bodies: `loops` on the CPU, one pass over the weight for a handful of rows, one product for more; `ref`, in FP64, for
reference runs and where gradients are on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.int8_linear import loops, ref
from octavo.kernels.int8_linear.ref import Int8Weight, round_rows, round_weight


def int8_linear(x: Tensor, weight: Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    _check(x, weight)
    return loops.linear(x, weight) if dispatch.loops_on_cpu(x) else ref.linear(x, weight)


def int8_grouped(x: Tensor, weight: Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    _check(x, weight)
    return loops.grouped(x, weight) if dispatch.loops_on_cpu(x) else ref.grouped(x, weight)


def _check(x: Tensor, weight: Int8Weight) -> None:
    if x.dtype != torch.float32:
        raise ValueError(f"x is {x.dtype}; INT8 weights take float32")
    if x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"x is {x.shape[-1]} wide; the weight has {weight.shape[-1]} inputs")


__all__ = ["Int8Weight", "int8_grouped", "int8_linear", "round_rows", "round_weight"]
