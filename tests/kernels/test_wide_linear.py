"""Wide projections: FP32 results of any input, several weights side by side, the rounded form and its gradients."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import wide_linear as package
from octavo.kernels.wide_linear import wide_linear
from octavo.kernels.wide_linear.matrix_units import RoundedLinear


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_result_is_wide_and_exact(dtype: torch.dtype) -> None:
    x, a, b = torch.randn(2, 5, 8, dtype=dtype), torch.randn(3, 8), torch.randn(4, 8)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    made = wide_linear(x, a, b)
    assert made.dtype == wide
    torch.testing.assert_close(made, torch.cat((x.to(wide) @ a.to(wide).T, x.to(wide) @ b.to(wide).T), -1))
    assert wide_linear(x[:, :0], a).shape == (2, 0, 3)


def test_rounded_form_rounds_weight_and_gradient_only() -> None:
    x = torch.randn(2, 6, 8).bfloat16().requires_grad_()
    weight = torch.randn(5, 8, requires_grad=True)
    made = RoundedLinear.apply(x, weight)
    rounded = weight.detach().bfloat16().float()
    torch.testing.assert_close(made, x.detach().float() @ rounded.T)
    grad = torch.randn(2, 6, 5)
    dx, dw = torch.autograd.grad(made, (x, weight), grad)
    g = grad.bfloat16().float()
    torch.testing.assert_close(dx.float(), (g @ rounded), atol=0.05, rtol=0.02)
    torch.testing.assert_close(dw, g.flatten(0, 1).T @ x.detach().float().flatten(0, 1))
    assert (dx.dtype, dw.dtype, made.dtype) == (torch.bfloat16, torch.float32, torch.float32)


def test_the_rounded_form_serves_training_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.dispatch, "trains_on_gpu", lambda x: True)
    x, a, b = torch.randn(4, 8).bfloat16(), torch.randn(3, 8), torch.randn(2, 8)
    torch.testing.assert_close(wide_linear(x, a, b), x.float() @ torch.cat((a, b)).bfloat16().float().T)
