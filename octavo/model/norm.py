"""RMS normalisation with a learned gain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.kernels.rmsnorm import rmsnorm


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps) * weight over the last dimension; FP32 inside."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width], same dtype."""
        return rmsnorm(x, self.weight, self.eps)
