"""Choice of one token: greedy ties, filters against their definitions, distribution, repeatability."""

from __future__ import annotations

import math
import random

import pytest
import torch

from octavo.config.errors import CheckpointError
from octavo.engine.request import Request
from octavo.engine.sampler import Sampler, tops


def draws(logits: torch.Tensor, count: int, **fields: object) -> list[int]:
    sampler = Sampler(Request(temperature=1.0, seed=5, **fields))  # type: ignore[arg-type]
    return [sampler.pick(logits) for _ in range(count)]


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler(Request()).pick(torch.tensor([0.0, 3.0, 1.0, 3.0])) == 1


def test_greedy_works_in_bfloat16_and_with_minus_infinity() -> None:
    logits = torch.tensor([-math.inf, 0.5, -math.inf], dtype=torch.bfloat16)
    assert Sampler(Request()).pick(logits) == 1
    assert set(draws(logits, 20)) == {1}


def test_nan_is_refused() -> None:
    with pytest.raises(CheckpointError, match="NaN"):
        Sampler(Request()).pick(torch.tensor([0.0, math.nan]))


def test_tops_are_the_first_of_equals_and_the_largest_of_the_others() -> None:
    rows = torch.tensor([[0.0, 3.0, 1.0, 3.0], [-1.0, -2.0, -4.0, -3.0]])
    assert tops(rows) == [(1, 3.0, 3.0), (0, -1.0, -2.0)]
    assert tops(torch.tensor([[-math.inf, 0.5, -math.inf]], dtype=torch.bfloat16)) == [(1, 0.5, -math.inf)]
    rows[1, 2] = math.nan
    with pytest.raises(CheckpointError, match="NaN"):
        tops(rows)


def test_draws_follow_the_softmax() -> None:
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    counts = torch.bincount(torch.tensor(draws(chances.log(), 4000)), minlength=4) / 4000
    assert torch.allclose(counts, chances, atol=0.03)  # four standard deviations


def test_temperature_sharpens() -> None:
    sampler = Sampler(Request(temperature=0.1, seed=1))
    logits = torch.tensor([1.0, 0.0, -1.0])
    assert [sampler.pick(logits) for _ in range(50)].count(0) >= 49


def test_tiny_temperature_is_greedy_without_overflow() -> None:
    sampler = Sampler(Request(temperature=1e-300, seed=1))
    assert sampler.pick(torch.tensor([1e4, 1e4 - 1, 0.0])) == 0


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.4}, {0}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.81}, {0, 1, 2}),
        ({"min_p": 0.29}, {0, 1, 2}),
        ({"min_p": 0.31}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.85}, {0, 1, 2}),  # 0.80 of 0.95 is 0.842: the third is needed
        ({"top_k": 3, "top_p": 0.84}, {0, 1}),
    ],
)
def test_filters_leave_exactly_what_they_define(fields: dict[str, float], left: set[int]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert set(draws(logits, 400, **fields)) == left


def test_top_k_ties_keep_the_lower_id() -> None:
    assert set(draws(torch.tensor([0.0, 1.0, 1.0, 1.0]), 100, top_k=2)) == {1, 2}


def test_same_seed_same_tokens_whatever_else_draws() -> None:
    logits = torch.randn(50)
    alone = draws(logits, 30)
    sampler, other = Sampler(Request(temperature=1.0, seed=5)), Sampler(Request(temperature=1.0, seed=6))
    mixed = []
    for _ in range(30):
        torch.rand(3)
        random.random()
        other.pick(logits)
        mixed.append(sampler.pick(logits))
    assert mixed == alone


def test_open_seed_is_told_and_repeats() -> None:
    logits = torch.randn(500)
    first = Sampler(Request(temperature=1.0))
    again = Sampler(Request(temperature=1.0, seed=first.seed))
    assert [first.pick(logits) for _ in range(20)] == [again.pick(logits) for _ in range(20)]
    assert Sampler(Request(temperature=1.0)).seed != first.seed


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    Sampler(Request(temperature=1.0))
    draws(torch.tensor([0.0, 1.0]), 5)
    assert torch.equal(torch.get_rng_state(), before)
