"""Chunked cross entropy: equals the plain one for every chunk size, gradients included; hits, weights, empty input."""

from __future__ import annotations

import math

import pytest
import torch

from octavo.kernels.cross_entropy import cross_entropy


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_equals_the_plain_loss_and_its_gradients(chunk: int) -> None:
    x, head = torch.randn(7, 5, requires_grad=True), torch.randn(11, 5, requires_grad=True)
    targets, weights = torch.randint(0, 11, (7,)), torch.tensor([1.0, 0.0, 0.1, 2.0, 1.0, 0.0, 0.3])
    loss, correct = cross_entropy(x, head, targets, weights, chunk=chunk)
    got = torch.autograd.grad(loss, (x, head))
    plain = -((x @ head.T).log_softmax(-1)[torch.arange(7), targets] * weights).sum()
    torch.testing.assert_close(loss, plain)
    for one, other in zip(got, torch.autograd.grad(plain, (x, head)), strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(correct, (x @ head.T).argmax(-1) == targets)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    loss, _ = cross_entropy(torch.randn(4, 3), torch.zeros(50, 3), torch.arange(4), torch.ones(4))
    assert loss.item() == pytest.approx(4 * math.log(50), rel=1e-6)


def test_rows_of_weight_zero_give_no_gradient() -> None:
    x, head = torch.randn(3, 4, requires_grad=True), torch.randn(6, 4)
    loss, _ = cross_entropy(x, head, torch.tensor([1, 2, 3]), torch.tensor([0.0, 1.0, 0.0]), chunk=2)
    loss.backward()
    assert x.grad is not None
    assert x.grad.abs().sum(1).gt(0).tolist() == [False, True, False]


def test_narrow_hidden_rows_give_a_single_precision_loss() -> None:
    x, head = torch.randn(6, 16).bfloat16(), torch.randn(9, 16)
    targets, weights = torch.randint(0, 9, (6,)), torch.ones(6)
    loss, _ = cross_entropy(x, head, targets, weights)
    logits = (x @ head.bfloat16().T).float()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))


def test_logits_are_not_kept_for_the_backward_pass() -> None:
    sizes: list[int] = []

    def keep(saved: torch.Tensor) -> torch.Tensor:
        sizes.append(saved.numel())
        return saved

    x, head = torch.randn(64, 4, requires_grad=True), torch.randn(1000, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        cross_entropy(x, head, torch.zeros(64, dtype=torch.int64), torch.ones(64), chunk=8)
    assert max(sizes, default=0) < 8 * 1000


def test_no_rows() -> None:
    loss, correct = cross_entropy(
        torch.zeros(0, 4), torch.randn(6, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    )
    assert (loss.item(), correct.shape, correct.dtype) == (0.0, (0,), torch.bool)
