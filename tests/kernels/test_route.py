"""Routing: scores, ties, the bias's reach, tables, underflow, empty input, gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavo.kernels.dispatch import Body, use
from octavo.kernels.route import route
from tests.support.bodies import BODIES, take


def gate_for(scores: list[float]) -> Tensor:
    """[X, 1]: gate weights that give the input 1 these scores."""
    return torch.tensor([[math.log(math.expm1(s * s))] for s in scores], dtype=torch.float64)


def test_scores_and_weights_by_hand() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    routing = route(one, gate_for([0.5, 1.0, 1.5, 0.2]), top=2, scale=3.0, normalise=True)
    torch.testing.assert_close(routing.scores[0], torch.tensor([0.5, 1.0, 1.5, 0.2], dtype=torch.float64))
    assert routing.experts.tolist() == [[2, 1]]
    torch.testing.assert_close(routing.weights[0], torch.tensor([1.8, 1.2], dtype=torch.float64))
    plain = route(one, gate_for([0.5, 1.0, 1.5, 0.2]), top=2, scale=3.0, normalise=False)
    torch.testing.assert_close(plain.weights[0], torch.tensor([4.5, 3.0], dtype=torch.float64))


def test_bias_changes_the_choice_and_never_the_weights() -> None:
    x, gate = torch.randn(50, 8), torch.randn(6, 8)
    bias = torch.tensor([0.0, 5.0, 0.0, -5.0, 0.0, 0.0])
    routing = route(x, gate, top=2, scale=1.5, normalise=True, bias=bias)
    assert (routing.experts == 1).any(1).all()
    assert not (routing.experts == 3).any()
    chosen = route(x, gate, top=2, scale=1.5, normalise=True, table_rows=routing.experts)
    assert torch.equal(chosen.weights, routing.weights)
    torch.testing.assert_close(routing.weights.sum(1), torch.full((50,), 1.5))


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=5, max_size=5), min_size=1, max_size=6))
def test_ties_go_to_the_lower_expert(logits: list[list[float]]) -> None:
    x = torch.tensor(logits)
    routing = route(x, torch.eye(5), top=3, scale=1.0, normalise=True)
    expected = [sorted(range(5), key=lambda e, row=row: (-row[e], e))[:3] for row in logits]
    assert routing.experts.tolist() == expected


def test_table_rows_ignore_the_bias_and_may_repeat() -> None:
    x, gate = torch.randn(3, 4), torch.randn(5, 4)
    table = torch.tensor([[4, 0], [1, 1], [2, 3]])
    with_bias = route(x, gate, top=2, scale=1.0, normalise=True, bias=torch.randn(5) * 9, table_rows=table)
    assert with_bias.experts is table
    assert torch.equal(with_bias.weights, route(x, gate, top=2, scale=1.0, normalise=True, table_rows=table).weights)
    torch.testing.assert_close(with_bias.weights[1], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("logit", [-20.0, -90.0, -1e4])
def test_underflow_gives_finite_weights_and_gradients(logit: float) -> None:
    x = torch.full((2, 1), logit, requires_grad=True)
    gate = torch.ones(4, 1, requires_grad=True)
    routing = route(x, gate, top=2, scale=1.0, normalise=True)
    assert torch.isfinite(routing.weights).all()
    assert routing.experts.tolist() == [[0, 1], [0, 1]]
    if logit == -20.0:  # log(1 + exp(-20)) is 0 in FP32 unless the form is stable
        torch.testing.assert_close(routing.scores[0, 0].item(), math.exp(-10.0), rtol=1e-5, atol=0)
        torch.testing.assert_close(routing.weights, torch.full((2, 2), 0.5))
    routing.weights.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_narrow_input_is_scored_in_single_precision() -> None:
    x, gate = torch.randn(9, 16).bfloat16(), torch.randn(4, 16)
    narrow, wide = (route(v, gate, top=2, scale=1.0, normalise=True) for v in (x, x.float()))
    assert narrow.scores.dtype == torch.float32
    assert torch.equal(narrow.scores, wide.scores)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("normalise", [False, True])
@torch.no_grad()
def test_a_handful_of_tokens(normalise: bool, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take(body, monkeypatch)
    x, gate = torch.randn(6, 8), torch.randn(7, 8)
    gate[5] = gate[2]  # a tie
    for bias, rows in ((None, None), (torch.randn(7), None), (None, torch.randint(0, 7, (6, 3)))):
        rules = {"top": 3, "scale": 1.5, "normalise": normalise, "bias": bias, "table_rows": rows}
        found = route(x, gate, **rules)
        with use(Body.REFERENCE):
            wanted = route(x, gate, **rules)
        assert torch.equal(found.experts, wanted.experts)
        torch.testing.assert_close(found.weights, wanted.weights, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-5, atol=1e-6)


def test_no_tokens() -> None:
    routing = route(torch.zeros(0, 4), torch.randn(5, 4), top=2, scale=1.0, normalise=True)
    assert (routing.experts.shape, routing.weights.shape, routing.scores.shape) == ((0, 2), (0, 2), (0, 5))


def test_gradient_reaches_input_and_gate() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    gate = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, g: route(x, g, top=2, scale=1.5, normalise=True).weights, (x, gate))
