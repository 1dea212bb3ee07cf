"""A linear map as a GPU reads it: dense or FP8 weights, few and many tokens.

Covers: `Map`, one weight or the rows of several maps of the same input, and which product it takes. Does not cover:
experts (`octavo.kernels.experts`), gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.kernels.linear import triton as few
from octavo.kernels.linear.packed import BLOCK
from octavo.kernels.linear.triton_fp8 import linear_fp8
from octavo.kernels.quant import scale_values

FEW = 64  # tokens up to which reading weights takes the time, not products: activations stay as they are


@dataclass(frozen=True)
class Map:
    """y = x W^T. weight [O, N] in the activations' dtype, or e4m3 bytes with `scale` e8m0 [ceil(O / 128), N / 128].

    With `groups` G the input is [T, G, N] and rows g O / G .. of the weight read group g. `rounded`: more than a few
    tokens are multiplied in FP8 as well, their activations rounded by 128 channels as the checkpoint's training did.
    """

    weight: Tensor
    scale: Tensor | None = None
    groups: int = 1
    rounded: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of weight and scale."""
        return self.weight.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """x [T, N] (with groups [T, G, N]) -> [T, O] in `dtype` (default: x's)."""
        dtype = dtype or x.dtype
        if not x.is_cuda or x.shape[0] <= FEW:
            product = few.linear if self.groups == 1 else few.grouped_linear
            return product(x, self.weight, self.scale, dtype=dtype)
        if self.scale is not None and self.rounded:
            assert self.groups == 1, "grouped inputs are not rounded"
            return linear_fp8(x, self.weight, self.scale, dtype=dtype)
        dense = self.weight if self.scale is None else self._decoded(self.scale, x.dtype)
        if self.groups == 1:
            return _mm(x, dense.T, dtype)
        w = dense.view(self.groups, -1, dense.shape[1])
        out = x.new_empty(x.shape[0], self.groups, w.shape[1])
        torch.bmm(x.transpose(0, 1), w.transpose(1, 2), out=out.transpose(0, 1))
        return out.flatten(1).to(dtype)

    def _decoded(self, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight's values; exact in BF16 too, since scales are powers of two."""
        O, N = self.weight.shape
        values, factor = self.weight.view(torch.float8_e4m3fn).to(dtype), scale_values(scale).to(dtype)
        if O % BLOCK:
            return values * factor.repeat_interleave(BLOCK, 0)[:O].repeat_interleave(BLOCK, 1)
        return (values.view(-1, BLOCK, N // BLOCK, BLOCK) * factor[:, None, :, None]).view(O, N)


def _mm(x: Tensor, w: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype == torch.float32 and x.dtype == torch.bfloat16:
        return torch.mm(x, w, out_dtype=torch.float32)
    return torch.mm(x, w).to(dtype)
