"""RMS normalisation: formula, dtypes and rounding, missing weight, tiny values, empty input, gradient."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.rmsnorm import rmsnorm


def test_formula() -> None:
    x, weight = torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 10.0])
    expected = torch.tensor([[6.0, 40.0]]) / (12.5 + 0.5) ** 0.5
    torch.testing.assert_close(rmsnorm(x, weight, 0.5), expected)
    torch.testing.assert_close(rmsnorm(x, None, 0.5), expected / weight)


def test_unit_rms_whatever_the_scale() -> None:
    for scale in (1e-3, 1.0, 1e4):
        out = rmsnorm(torch.randn(7, 64) * scale, None, 1e-12)
        torch.testing.assert_close(out.square().mean(-1), torch.ones(7), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_input_is_computed_in_single_and_rounded_once(dtype: torch.dtype) -> None:
    x, weight = (300 * torch.randn(5, 32)).to(dtype), torch.randn(32)
    out = rmsnorm(x, weight, 1e-6)
    assert out.dtype == dtype
    assert torch.equal(out, rmsnorm(x.float(), weight, 1e-6).to(dtype))


def test_double_stays_double_and_zero_stays_zero() -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    assert rmsnorm(x, torch.ones(8), 1e-6).dtype == torch.float64
    assert torch.equal(rmsnorm(torch.zeros(2, 8), torch.ones(8), 1e-6), torch.zeros(2, 8))


def test_empty_input_and_gradient() -> None:
    assert rmsnorm(torch.zeros(0, 3, 8), torch.ones(8), 1e-6).shape == (0, 3, 8)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: rmsnorm(a, b, 1e-6), (x, weight))
