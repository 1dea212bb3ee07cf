"""RMS normalisation.

Contract: `rmsnorm(x [..., N], weight [N] or None, eps) -> [..., N]`, x of any floating dtype; the mean square, the
scaling and the product with the weight are computed in FP32 and rounded once to x's dtype (FP64 stays FP64). Empty
leading dimensions give an empty result. Not in place. Formula: x * rsqrt(mean(x^2) + eps) * weight. A weight [M, N], M
the dimension before N, holds a gain for each of M rows.

Bodies: `loops` (CPU, FP32, no gradient, weight [N]), `triton` (training on a GPU; BF16, FP16 or FP32, N up to 32,768),
`ref` for everything else.
"""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.rmsnorm import loops, ref

_TRITON_WIDTH = 32_768


def rmsnorm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    plain = weight is None or (weight.dim() == 1 and weight.dtype == x.dtype)
    if plain and dispatch.loops_on_cpu(x):
        return loops.rmsnorm(x, weight, eps)
    if dispatch.trains_in_triton(x, "rmsnorm") and _fits_triton(x, weight):
        from octavo.kernels.rmsnorm import triton  # there where a GPU is

        return triton.rmsnorm(x, weight, eps)
    return ref.rmsnorm(x, weight, eps)


def _fits_triton(x: Tensor, weight: Tensor | None) -> bool:
    shapes = (x.shape[-1:], x.shape[-2:])
    fits = x.dtype in dispatch.TRITON_FLOATS and 1 <= x.shape[-1] <= _TRITON_WIDTH
    return fits and (weight is None or (weight.shape in shapes and weight.dtype in dispatch.TRITON_FLOATS))


__all__ = ["rmsnorm"]
