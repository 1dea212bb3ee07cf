"""Cross entropy in Triton: values and gradients against FP64, chunks, ties, -inf and NaN, empty input, wrong input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.cross_entropy import triton
from octavo.kernels.cross_entropy.triton import cross_entropy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows(R: int, D: int, V: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, head = torch.randn(R, D, device=DEVICE), torch.randn(V, D, device=DEVICE)
    return x, head, torch.randint(V, (R,), device=DEVICE), torch.rand(R, device=DEVICE)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("R", "V", "chunk"), [(7, 30, None), (7, 5000, 3), (12, 4096, 4), (1, 1, None)])
def test_values_and_gradients(
    R: int, V: int, chunk: int | None, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:  # rows are read in parts, as those of a larger vocabulary
        monkeypatch.setattr(triton, "_WHOLE", 0)
    x, head, targets, weights = rows(R, 16, V)
    leaves = [one.clone().requires_grad_() for one in (x, head)]
    loss, correct = cross_entropy(leaves[0], leaves[1], targets, weights, chunk=chunk)
    got = torch.autograd.grad(3 * loss, leaves)
    wide = [one.double().requires_grad_() for one in (x, head)]
    logits = wide[0] @ wide[1].T
    wanted = (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    torch.testing.assert_close(loss.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(correct, logits.argmax(-1) == targets)
    for a, b in zip(got, torch.autograd.grad(3 * wanted, wide), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_only_what_needs_a_gradient_gets_one() -> None:
    x, head, targets, weights = rows(4, 8, 20)
    both = [one.clone().requires_grad_() for one in (x, head)]
    cross_entropy(*both, targets, weights)[0].backward()
    for leaf, others in ((0, (x, head)), (1, (x, head))):
        given = [one.clone().requires_grad_(n == leaf) for n, one in enumerate(others)]
        cross_entropy(*given, targets, weights)[0].backward()
        assert torch.equal(given[leaf].grad, both[leaf].grad)
        assert given[1 - leaf].grad is None
    assert not cross_entropy(x, head, targets, weights)[0].requires_grad


def test_a_second_backward_pass_raises() -> None:
    x, head, targets, weights = rows(4, 8, 20)
    loss = cross_entropy(x.requires_grad_(), head, targets, weights)[0]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_come_in_their_tensors_dtypes() -> None:
    x, head, targets, weights = rows(4, 8, 20)
    x = x.bfloat16().requires_grad_()
    head.requires_grad_()
    cross_entropy(x, head, targets, weights)[0].backward()
    assert x.grad is not None
    assert head.grad is not None
    assert (x.grad.dtype, head.grad.dtype) == (torch.bfloat16, torch.float32)
    wide = [one.detach().double().requires_grad_() for one in (x, head)]
    (F.cross_entropy(wide[0] @ wide[1].T, targets, reduction="none") * weights).sum().backward()
    for got, leaf in zip((x.grad, head.grad), wide, strict=True):
        assert (got.double() - leaf.grad).norm() < 0.03 * leaf.grad.norm()


def test_of_equal_logits_the_first_counts() -> None:
    head = torch.tensor([[0.0], [1.0], [1.0], [-1.0]], device=DEVICE)
    targets = torch.arange(4, device=DEVICE)
    x, weights = torch.ones(4, 1, device=DEVICE), torch.ones(4, device=DEVICE)
    assert cross_entropy(x, head, targets, weights)[1].tolist() == [False, True, False, False]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_infinite_logits() -> None:
    """The vocabulary spans two tiles; whole lanes hold nothing but -inf."""
    logits = torch.full((2, 4100), -torch.inf, device=DEVICE)
    logits[0, [3, 4099]] = torch.tensor([1.0, 2.0], device=DEVICE)
    logits[1, 7] = torch.inf
    targets, weights = torch.tensor([3, 7], device=DEVICE), torch.ones(2, device=DEVICE)
    losses, correct = torch.empty(2, device=DEVICE), torch.empty(2, dtype=torch.int8, device=DEVICE)
    made = logits.clone()
    triton._loss[(2,)](made, targets, weights, losses, correct, 4100, GRADIENT=True, BLOCK=4096)
    wanted = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses[0], wanted[0])
    assert wanted[1].isnan()
    assert losses[1].isnan()
    assert correct.tolist() == [0, 1]
    torch.testing.assert_close(made[0], logits[0].softmax(0) - F.one_hot(targets[0], 4100))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_and_targets_outside_show_in_the_loss() -> None:
    x, head, targets, weights = rows(3, 4, 9)
    x[1, 2] = torch.nan
    assert cross_entropy(x, head, targets, weights)[0].isnan()
    for wrong in (-1, 9):
        x, head, targets, weights = rows(3, 4, 9)
        targets[2] = wrong
        loss, correct = cross_entropy(x, head, targets, weights)
        assert loss.isnan()
        assert correct.shape == (3,)


def test_no_rows() -> None:
    x, head, targets, weights = rows(0, 4, 9)
    head.requires_grad_()
    loss, correct = cross_entropy(x, head, targets, weights)
    loss.backward()
    assert loss == 0
    assert correct.shape == (0,)
    assert head.grad is not None
    assert not head.grad.any()


def test_wrong_input() -> None:
    x, head, targets, weights = rows(3, 4, 9)
    with pytest.raises(ValueError, match=r"head has the shape \(9, 3\); it must be \[V, 4\]"):
        cross_entropy(x, head[:, :3], targets, weights)
    with pytest.raises(ValueError, match=r"targets is torch.int32 \(3,\); it must be torch.int64 \(3,\)"):
        cross_entropy(x, head, targets.int(), weights)
    with pytest.raises(ValueError, match=r"weights has the shape \(2,\); it must be \(3,\)"):
        cross_entropy(x, head, targets, weights[:2])
    with pytest.raises(ValueError, match=r"x is torch.float64 \(3, 4\)"):
        cross_entropy(x.double(), head, targets, weights)
    with pytest.raises(ValueError, match="chunk is 0; it must be at least 1"):
        cross_entropy(x, head, targets, weights, chunk=0)
