"""RMS normalisation in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable


@fusable
def rmsnorm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    wide = x if x.dtype == torch.float64 else x.float()
    out = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if weight is not None:
        out = out * weight.to(out.dtype)
    return out.to(x.dtype)
