"""INT8 by row, plain: rounding, and products in FP64, which holds every sum of products of codes exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

TOP = 127  # codes are -127 .. 127: the range is symmetric
LEAST = 2.0**-100  # rows that nowhere reach this are zeros; 127 / LEAST and LEAST / 127 are normal FP32 numbers
MAX_INPUTS = (2**31 - 1) // TOP**2  # sums of more products could leave INT32
SHARE = float(np.float32(1 / TOP))


@dataclass(frozen=True, eq=False)
class Int8Weight:
    """A matrix as scale * codes: codes int8 [..., O, N], scale FP32 [..., O]; contiguous, on the CPU."""

    codes: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        """Of the matrix, [..., O, N]."""
        return self.codes.shape

    @cached_property
    def size(self) -> int:
        """Codes in all."""
        return self.codes.numel()

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + self.scale.nbytes

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes and scales as arrays of the same memory."""
        return self.codes.numpy(), self.scale.numpy()

    def wide(self) -> Tensor:
        """The matrix in FP32."""
        return self.codes.float() * self.scale.unsqueeze(-1)


def round_weight(weight: Tensor) -> Int8Weight:
    """See the package docstring for the contract."""
    if weight.shape[-1] > MAX_INPUTS:
        raise ValueError(f"weight has {weight.shape[-1]:,} inputs; INT8 sums hold at most {MAX_INPUTS:,}")
    if not bool(weight.isfinite().all()):
        raise ValueError("weight holds NaN or infinity; INT8 has no code for them")
    return Int8Weight(*round_rows(weight.detach().float()))


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """See the package docstring for the contract."""
    most = x.abs().amax(-1)
    kept = torch.where(most < LEAST, 0.0, most)
    inverse = torch.where(kept > 0, TOP / kept, 0.0)
    codes = torch.round(x * inverse.unsqueeze(-1))
    finite = most.isfinite()
    scale = torch.where(finite, kept * SHARE, torch.nan)
    return torch.where(finite.unsqueeze(-1), codes, 0.0).to(torch.int8), scale


def linear(x: Tensor, weight: Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    codes, scale = round_rows(x)
    sums = codes.double() @ weight.codes.double().transpose(-1, -2)
    return sums.float() * scale.unsqueeze(-1) * weight.scale


def grouped(x: Tensor, weight: Int8Weight) -> Tensor:
    """See the package docstring for the contract."""
    G = x.shape[1]
    codes, scale = weight.codes.view(G, -1, x.shape[-1]), weight.scale.view(G, -1)
    parts = [linear(x[:, g], Int8Weight(codes[g], scale[g])) for g in range(G)]
    return torch.cat(parts, dim=1)
