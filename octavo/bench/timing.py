"""Times that can be trusted: warmed up until stable, ours and its peers in turn, medians with their spread.

Covers: the method, on any callable that gives one sample; no device is touched here, so that it can be tested with a
clock that is made up. Does not cover: how a sample is taken (`sampler`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ROUNDS = 5
AGREE = 0.02
MEDIANS = 3  # that must agree
BATCH = 3  # samples of one median
Sample = Mapping[str, float]  # seconds of one call by series: cold and warm, or wall and processor


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and the 10 % and 90 % points (linear between neighbours) of `count` values."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        ordered = sorted(values)

        def point(share: float) -> float:
            place = share * (len(ordered) - 1)
            below = int(place)
            above = min(below + 1, len(ordered) - 1)
            return ordered[below] + (place - below) * (ordered[above] - ordered[below])

        return cls(median=statistics.median(ordered), low=point(0.1), high=point(0.9), count=len(ordered))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """How warming up ended: seconds spent, medians taken, and whether the last three agreed within 2 %."""

    seconds: float
    medians: int
    stable: bool


def warm_up(
    sample: Callable[[], float], *, cap_seconds: float, clock: Callable[[], float] = time.perf_counter
) -> WarmUp:
    """Sample until three medians in a row lie within 2 % of the least of them, or until the cap."""
    began, medians = clock(), []
    while True:
        medians.append(statistics.median(sample() for _ in range(BATCH)))
        last, spent = medians[-MEDIANS:], clock() - began
        stable = len(last) == MEDIANS and max(last) - min(last) <= AGREE * min(last)
        if stable or spent >= cap_seconds:
            return WarmUp(seconds=spent, medians=len(medians), stable=stable)


def alternate(
    sides: Mapping[str, Callable[[], Sample]], *, rounds: int = ROUNDS
) -> dict[str, dict[str, list[float]]]:
    """Samples of every side by series: in each round all sides in order and then in reverse (ABBA with one peer).

    The two samples of a round are neighbours in every list, so that ratios can be taken round by round.
    """
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    for _ in range(rounds):
        for name in (*sides, *reversed(tuple(sides))):
            for series, seconds in sides[name]().items():
                taken[name].setdefault(series, []).append(seconds)
    return taken


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """theirs / ours, one ratio a round (the mean of both samples of a round over that of ours); above 1 we are faster.
    """

    def by_round(values: Sequence[float]) -> list[float]:
        return [(first + second) / 2 for first, second in zip(values[::2], values[1::2], strict=True)]

    return Spread.of([a / b for a, b in zip(by_round(theirs), by_round(ours), strict=True)])
