"""RMS normalisation with a learned gain: the gain, the epsilon, dtypes."""

from __future__ import annotations

import torch

from octavo.kernels.rmsnorm import rmsnorm
from octavo.model.norm import RMSNorm


def test_gain_and_epsilon_are_used() -> None:
    norm, x = RMSNorm(6, 0.3), torch.randn(4, 6)
    assert torch.equal(norm.weight, torch.ones(6))
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 0.3).sqrt() * norm.weight)


def test_narrow_input_stays_narrow_and_is_rounded_once() -> None:
    norm, x = RMSNorm(6, 1e-6), torch.randn(4, 6).bfloat16()
    assert torch.equal(norm(x), rmsnorm(x.float(), norm.weight, 1e-6).bfloat16())


def test_gain_is_trained() -> None:
    norm = RMSNorm(3, 1e-6)
    norm(torch.tensor([[1.0, 1.0, 2.0]])).sum().backward()
    torch.testing.assert_close(norm.weight.grad, torch.tensor([1.0, 1.0, 2.0]) / 2**0.5)
