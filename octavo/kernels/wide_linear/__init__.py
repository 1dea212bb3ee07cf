"""Linear map whose result is at least FP32, whatever the input.

Contract: `wide_linear(x [..., N], *weights [O_i, N]) -> [..., sum O_i]`: x W^T in FP32 (FP64 for FP64 input),
differentiable; the results of several weights stand side by side.
While training in BF16 on a GPU the weight is rounded to BF16 and the product runs on the matrix units with FP32
accumulation and an FP32 result; the gradient of the result is rounded to BF16 before its two products. Everywhere
else the input is widened first; a handful of FP32 rows on the CPU are `linear`'s loops. Empty leading dimensions give
an empty result. Not in place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.linear import loops
from octavo.kernels.wide_linear.matrix_units import RoundedLinear


def wide_linear(x: Tensor, *weights: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    if x.dtype == torch.bfloat16 and dispatch.trains_on_gpu(x):
        return RoundedLinear.apply(x, weights[0] if len(weights) == 1 else torch.cat(weights))
    if loops.fits(x, *weights):
        return loops.linear(x, *weights)
    if len(weights) > 1 and x.dim() == 2 and dispatch.loops_on_cpu(x) and all(w.dtype == x.dtype for w in weights):
        out, at = torch.empty(len(x), sum(len(w) for w in weights)), 0
        for weight in weights:  # each product into its columns: no copy to bring them together
            torch.mm(x, weight.T, out=out[:, at : at + len(weight)])
            at += len(weight)
        return out
    wide = x if x.dtype == torch.float64 else x.float()
    parts = [F.linear(wide, weight.to(wide.dtype)) for weight in weights]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


__all__ = ["wide_linear"]
