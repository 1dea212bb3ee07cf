"""RMS norm in Triton: the reference's values and gradients, weights of several streams, empty input, wrong input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.rmsnorm import ref
from octavo.kernels.rmsnorm.triton import rmsnorm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def gradients(body, x: Tensor, weight: Tensor | None) -> tuple[Tensor, ...]:
    leaves = [one.detach().requires_grad_() for one in (x, weight) if one is not None]
    out = body(leaves[0], leaves[1] if weight is not None else None, 1e-6)
    g = torch.linspace(-1, 2, out.numel(), device=DEVICE, dtype=out.dtype).view(out.shape)
    return out.detach(), *torch.autograd.grad(out, leaves, g)


@pytest.mark.parametrize(
    ("shape", "weight"),
    [((5, 24), (24,)), ((3, 2, 100), None), ((300, 7), (7,)), ((67, 4, 9), (4, 9)), ((2, 3, 4, 33), (4, 33))],
)
def test_values_and_gradients(shape: tuple[int, ...], weight: tuple[int, ...] | None) -> None:
    x = torch.randn(shape, device=DEVICE)
    w = None if weight is None else torch.randn(weight, device=DEVICE)
    wanted = gradients(ref.rmsnorm, x.double(), None if w is None else w.double())
    for got, want in zip(gradients(rmsnorm, x, w), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=2e-5)


def test_bf16_is_rounded_once() -> None:
    x, w = torch.randn(6, 40, device=DEVICE).bfloat16(), torch.randn(40, device=DEVICE)
    got = rmsnorm(x, w, 1e-6)
    exact = ref.rmsnorm(x.double(), w.double(), 1e-6)
    assert got.dtype == torch.bfloat16
    step = 2**-8 if DEVICE == "cuda" else 2**-7  # the interpreter cuts the last bits off
    assert ((got.double() - exact).abs() <= exact.abs() * step * (1 + 1e-5)).all()


def test_gradients_come_in_their_tensors_dtypes() -> None:
    x = torch.randn(4, 16, device=DEVICE).bfloat16().requires_grad_()
    w = torch.randn(16, device=DEVICE).requires_grad_()
    rmsnorm(x, w, 1e-6).float().sum().backward()
    assert x.grad is not None
    assert w.grad is not None
    assert (x.grad.dtype, w.grad.dtype) == (torch.bfloat16, torch.float32)


def test_rows_with_gaps() -> None:
    x = torch.randn(5, 64, device=DEVICE)[:, 3:35]
    torch.testing.assert_close(rmsnorm(x, None, 1e-6), ref.rmsnorm(x, None, 1e-6))


def test_no_rows() -> None:
    x, w = torch.empty(0, 8, device=DEVICE, requires_grad=True), torch.ones(8, device=DEVICE, requires_grad=True)
    out = rmsnorm(x, w, 1e-6)
    out.sum().backward()
    assert out.shape == (0, 8)
    assert w.grad is not None
    assert not w.grad.any()


def test_wrong_input() -> None:
    x = torch.ones(2, 8, device=DEVICE)
    with pytest.raises(ValueError, match=r"weight has the shape \(7,\)"):
        rmsnorm(x, torch.ones(7, device=DEVICE), 1e-6)
    with pytest.raises(ValueError, match="x is torch.float64 with rows of 8"):
        rmsnorm(x.double(), None, 1e-6)
    with pytest.raises(ValueError, match="rows of 40000; .* 1 to 32768"):
        rmsnorm(torch.ones(1, 40000, device=DEVICE), None, 1e-6)
