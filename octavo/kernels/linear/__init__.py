"""Linear maps without bias.

Contract: `linear(x [..., N], weight [O, N]) -> [..., O]`: x W^T in x's dtype (the weight is cast to it).
`grouped_linear(x [T, G, N], weight [G * R, N]) -> [T, G * R]`: rows g R .. g R + R - 1 of the weight read group g.
Differentiable. Empty leading dimensions give an empty result. Not in place.
A weight may be an `Int8Weight`: then `int8_linear` and `int8_grouped` say what comes out.

Bodies: torch's products; `grouped` for groups while training on a GPU; `loops` for a handful of rows on the CPU, where
a product is one pass over the weight and torch's general one reads it at half the speed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.int8_linear import Int8Weight, int8_grouped, int8_linear
from octavo.kernels.linear import loops
from octavo.kernels.linear.grouped import Grouped


def linear(x: Tensor, weight: Tensor | Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    if isinstance(weight, Int8Weight):
        return int8_linear(x, weight)
    if loops.fits(x, weight):
        return loops.linear(x, weight)
    return F.linear(x, weight.to(x.dtype))


def grouped_linear(x: Tensor, weight: Tensor | Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    if isinstance(weight, Int8Weight):
        return int8_grouped(x, weight)
    if loops.fits(x, weight, tokens=x.shape[0]):
        return loops.grouped(x, weight)
    split = weight.to(x.dtype).view(x.shape[1], -1, x.shape[-1])
    if dispatch.trains_on_gpu(x):
        return Grouped.apply(x.contiguous(), split)
    return torch.bmm(x.transpose(0, 1), split.transpose(1, 2)).transpose(0, 1).flatten(1)


__all__ = ["grouped_linear", "linear"]
