"""Walsh-Hadamard transform as one product with the matrix of signs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def hadamard(x: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    width = x.shape[-1]
    if x.is_cuda and x.dtype == torch.bfloat16 and width.bit_length() % 2:  # N^-1/2 is a power of two: BF16 is exact
        return x @ _scaled(width, x.device)
    wide = x if x.dtype == torch.float64 else x.float()
    signs = torch.from_numpy(_signs(width)).to(device=x.device, dtype=wide.dtype)
    return (wide @ signs * width**-0.5).to(x.dtype)


@lru_cache(maxsize=8)
def _scaled(width: int, device: torch.device) -> Tensor:
    """N^-1/2 times the signs, [N, N] BF16 on the device."""
    with torch.inference_mode(False):
        return torch.from_numpy(_signs(width) * width**-0.5).to(device, torch.bfloat16)


@lru_cache(maxsize=8)
def _signs(width: int) -> np.ndarray:
    """[N, N] FP32 of +1 and -1, built by Sylvester's doubling; kept in numpy so that no autograd mode clings to it."""
    matrix = np.ones((1, 1), dtype=np.float32)
    while matrix.shape[0] < width:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix
