"""The objective: by hand, its gradient at ratio 1 that of REINFORCE, which way the clip holds, the divergence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from octavo.config.errors import ConfigError
from octavo.train.reinforce.objective import Normalise, Objective, loss, token_weights


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_at_ratio_one_the_gradient_is_that_of_reinforce() -> None:
    new = tensor(-1.0, -2.0, -0.5).requires_grad_()
    worth, weight = tensor(1.5, -0.5, 2.0), tensor(0.2, 0.3, 0.5)
    made, told = loss(new, new.detach(), worth, weight, Objective())
    made.backward()
    reinforce = tensor(-1.0, -2.0, -0.5).requires_grad_()
    (-(weight * worth * reinforce).sum()).backward()
    assert new.grad is not None
    assert reinforce.grad is not None
    assert torch.equal(new.grad, reinforce.grad)
    assert float(made.detach()) == pytest.approx(-(0.2 * 1.5 - 0.3 * 0.5 + 0.5 * 2.0))
    assert (float(told.tokens), float(told.clipped), float(told.most_ratio)) == (3.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("ratio", "worth", "value", "moves"),
    [
        (1.5, 1.0, 1.3, False),  # better already: no further
        (1.5, -1.0, -1.5, True),  # worse and likelier: back, however far
        (0.5, 1.0, 0.5, True),
        (0.5, -1.0, -0.8, False),
        (1.25, 1.0, 1.25, True),  # between the two limits
        (0.9, -1.0, -0.9, True),
    ],
)
def test_the_clip_by_hand(ratio: float, worth: float, value: float, moves: bool) -> None:
    new = tensor(math.log(ratio)).requires_grad_()
    made, told = loss(new, tensor(0.0), tensor(worth), tensor(1.0), Objective(clip_low=0.2, clip_high=0.3))
    made.backward()
    assert float(made.detach()) == pytest.approx(-value)
    assert new.grad is not None
    assert float(new.grad) == pytest.approx(-ratio * worth if moves else 0.0)
    assert float(told.clipped) == (0.0 if moves else 1.0)


def test_the_divergence_by_hand() -> None:
    new, reference = tensor(-1.0, -2.0).requires_grad_(), tensor(-1.5, -2.0)
    rules = Objective(kl=0.1)
    made, told = loss(new, new.detach(), tensor(0.0, 0.0), tensor(1.0, 1.0), rules, reference)
    made.backward()
    apart = math.exp(-0.5) + 0.5 - 1.0
    assert float(told.divergence) == pytest.approx(apart)
    assert float(made.detach()) == pytest.approx(0.1 * apart)
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([0.1 * (1.0 - math.exp(-0.5)), 0.0])


def test_the_divergence_is_zero_in_the_mean_only_at_the_reference() -> None:
    reference = torch.log_softmax(torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64), 0)
    policy = torch.log_softmax(torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64), 0)
    log_ratio = reference - policy
    estimate = float((policy.exp() * (log_ratio.exp() - log_ratio - 1.0)).sum())
    assert estimate == pytest.approx(float((policy.exp() * (policy - reference)).sum()))


def test_weights_of_tokens() -> None:
    assert token_weights([2, 6], Normalise.TOKENS, max_tokens=10) == [1 / 8, 1 / 8]
    assert token_weights([2, 6], Normalise.ANSWERS, max_tokens=10) == [1 / 4, 1 / 12]
    assert token_weights([2, 6], Normalise.CONSTANT, max_tokens=10) == [1 / 20, 1 / 20]
    for rule in (Normalise.TOKENS, Normalise.ANSWERS):
        weights = token_weights([3, 5, 1], rule, max_tokens=10)
        assert sum(n * w for n, w in zip([3, 5, 1], weights, strict=True)) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"clip_low": 1.5}, {"clip_high": -0.1}, {"kl": -1.0}, {"most_weight": 0.5}])
def test_limits(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*; it must be from"):
        Objective(**wrong)
