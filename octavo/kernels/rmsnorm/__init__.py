"""RMS normalisation.

Contract: `rmsnorm(x [..., N], weight [N] or None, eps) -> [..., N]`, x of any floating dtype; the mean square, the
scaling and the product with the weight are computed in FP32 and rounded once to x's dtype (FP64 stays FP64). Empty
leading dimensions give an empty result. Not in place. Formula: x * rsqrt(mean(x^2) + eps) * weight.
"""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.rmsnorm import loops, ref


def rmsnorm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    plain = weight is None or (weight.dim() == 1 and weight.dtype == x.dtype)
    if plain and dispatch.loops_on_cpu(x):
        return loops.rmsnorm(x, weight, eps)
    return ref.rmsnorm(x, weight, eps)


__all__ = ["rmsnorm"]
