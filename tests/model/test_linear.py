"""Linear maps: product in the input's dtype from FP32 masters, and the FP8 simulation of the input."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.quant import simulate_fp8
from octavo.model.linear import Linear, round_input


def filled(inputs: int, outputs: int, *, simulate: bool = False) -> Linear:
    linear = Linear(inputs, outputs, simulate=simulate)
    torch.nn.init.normal_(linear.weight)
    return linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_product_has_the_dtype_of_the_input(dtype: torch.dtype) -> None:
    linear, x = filled(6, 3), torch.randn(2, 5, 6, dtype=dtype)
    out = linear(x)
    assert (out.shape, out.dtype) == ((2, 5, 3), dtype)
    torch.testing.assert_close(out, x @ linear.weight.detach().to(dtype).T)
    assert linear.weight.dtype == torch.float32


def test_masters_get_the_gradient_of_narrow_products() -> None:
    linear, x = filled(6, 3), torch.randn(4, 6).bfloat16()
    linear(x).float().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32
    torch.testing.assert_close(linear.weight.grad[0], x.float().sum(0), rtol=0.02, atol=0.02)


def test_there_is_no_bias() -> None:
    assert [name for name, _ in Linear(2, 2).named_parameters()] == ["weight"]
    assert filled(4, 4)(torch.zeros(1, 4)).abs().max() == 0


def test_simulation_rounds_the_input_only() -> None:
    linear, x = filled(256, 8, simulate=True), torch.randn(3, 256)
    torch.testing.assert_close(linear(x), simulate_fp8(x, group=128) @ linear.weight.detach().T)
    assert not torch.equal(linear(x), x @ linear.weight.T)


def test_narrow_inputs_are_rounded_as_one_group() -> None:
    x = torch.randn(3, 24)
    assert torch.equal(round_input(x, True), simulate_fp8(x, group=24))
    assert round_input(x, False) is x
