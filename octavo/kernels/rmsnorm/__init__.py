"""RMS normalisation.

Contract: `rmsnorm(x [..., N], weight [N] or None, eps) -> [..., N]`, x of any floating dtype; the mean square, the
scaling and the product with the weight are computed in FP32 and rounded once to x's dtype (FP64 stays FP64). Empty
leading dimensions give an empty result. Not in place. Formula: x * rsqrt(mean(x^2) + eps) * weight.
"""

from octavo.kernels.rmsnorm.ref import rmsnorm

__all__ = ["rmsnorm"]
