"""BF16 products with FP32 results on the GPU's matrix units, with their backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RoundedLinear(torch.autograd.Function):
    """x [..., N] BF16 times weight [O, N] rounded to BF16, FP32 out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        flat, rounded = x.reshape(-1, x.shape[-1]), weight.to(x.dtype)
        ctx.save_for_backward(flat, rounded)
        ctx.shape, ctx.weight_dtype = x.shape, weight.dtype
        return _product(flat, rounded.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        flat, rounded = ctx.saved_tensors
        grad = grads[0].reshape(flat.shape[0], -1).to(flat.dtype)
        return (grad @ rounded).view(ctx.shape), _product(grad.T, flat).to(ctx.weight_dtype)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b in FP32; CPU tensors (tests) have no such product and are widened."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()
