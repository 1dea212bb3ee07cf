"""Rotary embedding in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable
from octavo.kernels.rmsnorm.ref import rmsnorm


def inverse_frequencies(
    *, base: float, dims: int, factor: float = 1.0, original: int = 0, beta_fast: float = 32.0, beta_slow: float = 1.0
) -> Tensor:
    """Angular frequencies [dims / 2] in FP64; `factor` > 1 with `original` > 0 applies YaRN's frequency blend.

    Pairs that turn more than `beta_fast` times over `original` positions stay, pairs that turn less than `beta_slow`
    times are divided by `factor`, and a linear ramp joins them (YaRN, arXiv 2309.00071, section 3.2).
    """
    freq = base ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    if factor <= 1.0 or original <= 0:
        return freq

    def corrected(turns: float) -> float:
        return dims * math.log(original / (2 * math.pi * turns)) / (2 * math.log(base))

    low = max(math.floor(corrected(beta_fast)), 0)
    high = min(math.ceil(corrected(beta_slow)), dims - 1)
    width = (high - low) or 0.001
    ramp = ((torch.arange(dims // 2, dtype=torch.float64) - low) / width).clamp(0, 1)
    return freq * (1 - ramp) + freq / factor * ramp


def rope_table(positions: Tensor, inv_freq: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """cos and sin of position x frequency, each [..., dims / 2] of `dtype`."""
    angle = positions.to(torch.float64).unsqueeze(-1) * inv_freq.to(positions.device)
    return angle.cos().to(dtype), angle.sin().to(dtype)


@fusable
def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool = False) -> Tensor:
    """Rotate the last 2 * cos.shape[-1] channels of x; see the package docstring."""
    dims = 2 * cos.shape[-1]
    still, turning = x[..., : x.shape[-1] - dims], x[..., x.shape[-1] - dims :]
    pair = turning.to(cos.dtype).unflatten(-1, (-1, 2))
    even, odd = pair[..., 0], pair[..., 1]
    if inverse:
        sin = -sin
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
    return torch.cat((still, turned.to(x.dtype)), dim=-1)


@fusable
def norm_rotate(x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, *, eps: float) -> Tensor:
    """RMS norm, then rotation, as the two operations in turn."""
    return rotate(rmsnorm(x, weight, eps), cos, sin)
