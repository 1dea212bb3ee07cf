"""The grouped map with its gradients in place: every product reads and writes the tensors where they lie.

Covers: `Grouped`. Does not cover: single products and casts (`octavo.kernels.linear`).

Groups are the middle dimension of both input and result. Left to autograd, batched products would bring a group's rows
together and copy them back, once forward and once backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Grouped(torch.autograd.Function):
    """x [T, G, N] contiguous, weight [G, R, N] of one dtype -> [T, G * R]: x_tg times weight_g^T."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        (T, G, _), R = x.shape, weight.shape[1]
        out = x.new_empty(T, G, R)
        torch.bmm(x.transpose(0, 1), weight.transpose(1, 2), out=out.transpose(0, 1))
        return out.flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        g = grads[0].reshape(len(x), *weight.shape[:2]).transpose(0, 1)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            torch.bmm(g, weight, out=dx.transpose(0, 1))
        return dx, torch.bmm(g.transpose(1, 2), x.transpose(0, 1)) if ctx.needs_input_grad[1] else None
