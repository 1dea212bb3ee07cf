"""Warming up, turns and spreads, with a clock that is made up."""

from __future__ import annotations

import pytest

from octavo.bench.timing import Spread, alternate, ratio, warm_up
from tests.bench.toys import Clock


def test_spread_is_the_median_and_the_outer_tenths() -> None:
    found = Spread.of([float(n) for n in range(11)][::-1])
    assert found.as_dict() == {"median": 5.0, "low": 1.0, "high": 9.0, "count": 11}
    assert Spread.of([3.0]) == Spread(median=3.0, low=3.0, high=3.0, count=1)
    two = Spread.of([1.0, 2.0])
    assert (two.median, two.low, two.high) == (1.5, pytest.approx(1.1), pytest.approx(1.9))


def test_warming_up_ends_when_three_medians_agree() -> None:
    clock = Clock()
    speeds = [9, 9, 9, 5, 5, 5, 2, 2, 2, 2.03, 2.03, 99, 2.03, 2.03, 2.03]  # the last medians: 2, 2.03, 2.03
    left = iter(speeds)

    def sample() -> float:
        clock.now += 1
        return next(left)

    found = warm_up(sample, cap_seconds=1000, clock=clock)
    assert (found.medians, found.stable, found.seconds) == (5, True, 15)


def test_warming_up_ends_at_the_cap_and_says_so() -> None:
    clock, values = Clock(), iter(range(1, 1000))

    def sample() -> float:
        clock.now += 1
        return float(next(values))  # never the same twice

    found = warm_up(sample, cap_seconds=20, clock=clock)
    assert (found.medians, found.stable, found.seconds) == (7, False, 21)


def test_sides_take_turns_there_and_back() -> None:
    order = []

    def side(name: str, value: float):
        def sample() -> dict[str, float]:
            order.append(name)
            return {"wall": value, "processor": value / 2}

        return sample

    taken = alternate({"ours": side("A", 1.0), "first": side("B", 2.0), "second": side("C", 3.0)}, rounds=2)
    assert "".join(order) == "ABCCBA" * 2
    assert taken["first"] == {"wall": [2.0] * 4, "processor": [1.0] * 4}


def test_ratio_is_taken_round_by_round() -> None:
    ours, theirs = [1.0, 1.0, 4.0, 4.0, 2.0, 2.0], [2.0, 4.0, 12.0, 12.0, 6.0, 6.0]
    assert ratio(theirs, ours) == Spread(median=3.0, low=3.0, high=3.0, count=3)
    with pytest.raises(ValueError):
        ratio(theirs[:4], ours)
