"""Advantages against values worked out by hand."""

from __future__ import annotations

import torch

from octavo.train.reinforce.advantage import advantages, told_apart


def test_values_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    made = advantages(rewards)
    half = 0.5 / (0.5 + 1e-4)
    # mean 1/4; the spread is sqrt(3/16)
    high, low = 0.75 / (0.4330127018922193 + 1e-4), -0.25 / (0.4330127018922193 + 1e-4)
    expected = torch.tensor([[half, -half, -half, half], [high, low, low, low]], dtype=torch.float64)
    assert made.dtype == torch.float64
    assert torch.allclose(made, expected, atol=1e-12, rtol=0)


def test_without_the_spread_they_are_differences_to_the_mean() -> None:
    made = advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.2, 0.4, 0.6, 0.8]]), by_spread=False)
    expected = torch.tensor([[0.75, -0.25, -0.25, -0.25], [-0.3, -0.1, 0.1, 0.3]], dtype=torch.float64)
    assert torch.allclose(made, expected, atol=1e-7)


def test_groups_that_are_all_alike_get_nothing() -> None:
    rewards = torch.tensor([[1.0] * 3, [0.0] * 3, [0.1] * 3, [0.0, 1.0, 0.0]])
    assert told_apart(rewards).tolist() == [False, False, False, True]
    made = advantages(rewards)
    assert (made[:3] == 0.0).all()
    assert float(made[3].sum().abs()) < 1e-12
    assert float(made[3, 1]) > 0
