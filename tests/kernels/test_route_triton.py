"""Routing in one launch: equal to the reference, ties, NaN, underflow, looked-up choices, empty input, wrong shapes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.route import ref
from octavo.kernels.route.triton import choose, route

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize(("T", "X", "A"), [(1, 256, 6), (5, 384, 6), (3, 5, 5)])
@pytest.mark.parametrize("normalise", [True, False])
def test_choice_equals_the_reference(T: int, X: int, A: int, normalise: bool) -> None:
    logits, bias = torch.randn(T, X), torch.randn(X) * 0.1
    rules = {"top": A, "scale": 2.5, "normalise": normalise}
    wanted = ref.route(logits.double(), eye(X), bias=bias.double(), **rules)
    got = choose(logits.to(DEVICE), bias=bias.to(DEVICE), **rules)
    assert torch.equal(got.experts.cpu(), wanted.experts)
    torch.testing.assert_close(got.weights.cpu().double(), wanted.weights, rtol=1e-5, atol=0)
    torch.testing.assert_close(got.scores.cpu().double(), wanted.scores, rtol=1e-5, atol=0)


def test_many_tokens_go_several_to_a_program() -> None:
    logits = torch.randn(1030, 8)
    got = choose(logits.to(DEVICE), top=2, scale=1.0, normalise=True, dtype=torch.int32)
    wanted = ref.route(logits.double(), eye(8), top=2, scale=1.0, normalise=True)
    assert got.experts.dtype == torch.int32
    assert torch.equal(got.experts.cpu().long(), wanted.experts)
    torch.testing.assert_close(got.weights.cpu().double(), wanted.weights, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bias", [0.0, -5.0])
def test_ties_go_to_the_lower_expert(bias: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]], device=DEVICE)
    made = choose(logits, top=5, scale=1.0, normalise=True, bias=torch.full((6,), bias, device=DEVICE))
    assert made.experts.tolist() == [[1, 3, 5, 0, 2]]


def test_nan_and_infinities_have_their_places() -> None:
    logits = torch.zeros(1, 5, device=DEVICE)
    bias = torch.tensor([-torch.inf, 1.0, torch.nan, torch.inf, -torch.inf], device=DEVICE)
    made = choose(logits, top=5, scale=1.0, normalise=True, bias=bias)
    assert made.experts.tolist() == [[2, 3, 1, 0, 4]]
    torch.testing.assert_close(made.weights, torch.full((1, 5), 0.2, device=DEVICE))
    logits[0, 3] = torch.nan
    assert choose(logits, top=2, scale=1.0, normalise=True).weights.isnan().all()


def test_scores_keep_small_values_and_underflow_to_zero() -> None:
    logits = torch.tensor([[-160.0, -100.0, -60.0, -20.0, -8.0, 0.0, 30.0, 1e4]])
    got = choose(logits.to(DEVICE), top=8, scale=1.0, normalise=False).scores.cpu().double()
    wanted = torch.nn.functional.softplus(logits.double()).sqrt()
    assert got[0, :2].tolist() == [0.0, 0.0]
    torch.testing.assert_close(got[:, 2:], wanted[:, 2:], rtol=2e-6, atol=0)
    nothing = choose(torch.full((1, 4), -200.0, device=DEVICE), top=2, scale=1.0, normalise=True)
    assert nothing.weights.tolist() == [[0.0, 0.0]]


def test_looked_up_experts_ignore_the_bias_and_may_repeat() -> None:
    logits, table = torch.randn(4, 6), torch.tensor([[0, 0], [5, 1], [2, 2], [3, 4]])
    wanted = ref.route(logits.double(), eye(6), top=2, scale=1.5, normalise=True, table_rows=table)
    got = choose(
        logits.to(DEVICE), top=2, scale=1.5, normalise=True, bias=torch.full((6,), 9.0, device=DEVICE),
        table_rows=table.to(DEVICE),
    )  # fmt: skip
    assert torch.equal(got.experts.cpu(), table)
    torch.testing.assert_close(got.weights.cpu().double(), wanted.weights, rtol=1e-5, atol=0)


def test_rows_of_a_wider_matrix_are_read_in_place() -> None:
    wide = torch.randn(3, 20, device=DEVICE)
    apart = choose(wide[:, 4:12], top=2, scale=1.0, normalise=True)
    packed = choose(wide[:, 4:12].contiguous(), top=2, scale=1.0, normalise=True)
    assert torch.equal(apart.experts, packed.experts)
    assert torch.equal(apart.weights, packed.weights)


def test_route_multiplies_with_the_gate() -> None:
    x, gate = torch.randn(3, 64), torch.randn(16, 64)
    got = route(x.to(DEVICE), gate.to(DEVICE), top=4, scale=1.5, normalise=True)
    wanted = ref.route(x.double(), gate.double(), top=4, scale=1.5, normalise=True)
    assert torch.equal(got.experts.cpu(), wanted.experts)
    torch.testing.assert_close(got.weights.cpu().double(), wanted.weights, rtol=1e-4, atol=0)


def test_no_tokens() -> None:
    made = choose(torch.empty(0, 8, device=DEVICE), top=2, scale=1.0, normalise=True)
    assert [tuple(t.shape) for t in made] == [(0, 2), (0, 2), (0, 8)]


def test_wrong_input_is_refused() -> None:
    logits = torch.randn(2, 8, device=DEVICE)
    rules = {"scale": 1.0, "normalise": True}
    with pytest.raises(ValueError, match="top is 9 of 8"):
        choose(logits, top=9, **rules)
    with pytest.raises(ValueError, match="bias is"):
        choose(logits, top=2, bias=torch.zeros(7, device=DEVICE), **rules)
    with pytest.raises(ValueError, match="table_rows has 3"):
        choose(logits, top=2, table_rows=torch.zeros(3, 2, dtype=torch.int64, device=DEVICE), **rules)
    with pytest.raises(ValueError, match="gradient"):
        choose(logits.requires_grad_(), top=2, **rules)
