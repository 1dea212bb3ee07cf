"""Normalised Walsh-Hadamard transform over the last dimension.

Contract: `hadamard(x [..., N]) -> [..., N]`, N a power of two (else ValueError): y = N^-1/2 H x in natural (Sylvester)
order, H[i, j] = (-1)^popcount(i & j). Computed in FP32 and rounded once to x's dtype (FP64 stays FP64). It is
orthonormal and its own inverse. Empty leading dimensions give an empty result; not in place; differentiable.

Bodies: `ref` runs log2 N butterfly steps; `product` multiplies by the matrix, which at the indexer's widths (64, 128)
costs one pass over memory instead of log2 N (README); `loops` runs the butterflies within a row (CPU).
"""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.hadamard import loops, product, ref


def hadamard(x: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    width = x.shape[-1]
    if width < 1 or width & (width - 1):
        raise ValueError(f"width is {width}; the Hadamard transform needs a power of two")
    if dispatch.loops_on_cpu(x):
        return loops.hadamard(x)
    return (ref if dispatch.body() is dispatch.Body.REFERENCE else product).hadamard(x)


__all__ = ["hadamard"]
