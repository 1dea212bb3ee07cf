"""Walsh-Hadamard transform by butterflies: log2 N rounds of sums and differences."""

from __future__ import annotations

import torch
from torch import Tensor


def hadamard(x: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    width = x.shape[-1]
    wide = x if x.dtype == torch.float64 else x.float()
    span = 1
    while span < width:
        pairs = wide.unflatten(-1, (width // (2 * span), 2, span))
        low, high = pairs.unbind(-2)
        wide = torch.stack((low + high, low - high), dim=-2).flatten(-3)
        span *= 2
    return (wide * width**-0.5).to(x.dtype)
