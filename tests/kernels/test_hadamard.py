"""Walsh-Hadamard transform: definition, orthonormality, both bodies, dtypes, bad widths."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import dispatch
from octavo.kernels.hadamard import hadamard


def definition(width: int) -> torch.Tensor:
    """H[i, j] = (-1)^popcount(i & j) / sqrt(N) in FP64."""
    signs = [[1.0 - 2.0 * ((i & j).bit_count() % 2) for j in range(width)] for i in range(width)]
    return torch.tensor(signs, dtype=torch.float64) / width**0.5


@pytest.mark.parametrize("body", list(dispatch.Body))
@pytest.mark.parametrize("width", [1, 2, 8, 64, 128])
def test_both_bodies_are_the_definition(body: dispatch.Body, width: int) -> None:
    x = torch.randn(3, 5, width, dtype=torch.float64)
    with dispatch.use(body):
        torch.testing.assert_close(hadamard(x), x @ definition(width), rtol=0, atol=1e-13)
        torch.testing.assert_close(hadamard(x.float()), (x @ definition(width)).float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("body", list(dispatch.Body))
def test_its_own_inverse_and_keeps_scalar_products(body: dispatch.Body) -> None:
    q, k = torch.randn(4, 128), torch.randn(9, 128)
    with dispatch.use(body):
        torch.testing.assert_close(hadamard(hadamard(q)), q, rtol=0, atol=2e-6)
        torch.testing.assert_close(hadamard(q) @ hadamard(k).T, q @ k.T, rtol=0, atol=3e-5)


@pytest.mark.parametrize("body", list(dispatch.Body))
def test_bfloat16_is_rounded_once(body: dispatch.Body) -> None:
    x = torch.randn(6, 64, dtype=torch.bfloat16)
    with dispatch.use(body):
        assert torch.equal(hadamard(x), hadamard(x.float()).bfloat16())


@pytest.mark.parametrize("body", list(dispatch.Body))
def test_empty_input_and_gradient(body: dispatch.Body) -> None:
    with dispatch.use(body):
        assert hadamard(torch.zeros(0, 32)).shape == (0, 32)
        with torch.inference_mode():
            hadamard(torch.randn(2, 32))
        x, weight = torch.randn(2, 32, requires_grad=True), torch.randn(2, 32)
        (hadamard(x) * weight).sum().backward()
        assert x.grad is not None
        torch.testing.assert_close(x.grad, hadamard(weight), rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [0, 3, 96])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width is {width}; the Hadamard transform needs a power of two"):
        hadamard(torch.zeros(2, width))
