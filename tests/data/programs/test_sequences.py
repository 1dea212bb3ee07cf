"""Lists made of numbers: what they hold, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from octavo.data.programs import sequences
from octavo.data.programs.piece import Scope, Source


def made(maker: Callable[[Scope], Source], key: str, *numbers: int) -> list[int]:
    for seed in range(200):
        scope = Scope(draw=Random(seed))
        one = maker(scope)
        if one.key == key:
            return one.run(dict(zip((each.name for each in scope.arguments), numbers, strict=True)))
    raise AssertionError(f"no {key}")


@pytest.mark.parametrize(
    ("maker", "key", "numbers", "wanted"),
    [
        (sequences.digits, "digits", (407,), [4, 0, 7]),
        (sequences.digits, "digits back", (407,), [7, 0, 4]),
        (sequences.whole_numbers, "from 0", (3,), [0, 1, 2, 3]),
        (sequences.whole_numbers, "from 1", (3,), [1, 2, 3]),
        (sequences.between, "between", (-1, 2), [-1, 0, 1, 2]),
        (sequences.divisors, "proper divisors", (12,), [1, 2, 3, 4, 6]),
    ],
)
def test_lists(maker: Callable[[Scope], Source], key: str, numbers: tuple[int, ...], wanted: list[int]) -> None:
    assert made(maker, key, *numbers) == wanted


def test_rules_that_lead_on() -> None:
    assert made(sequences.powers, "powers", 1) == [1]
    assert len(made(sequences.recurrence, "recurrence", 1)) == 1
    assert made(sequences.orbit, "orbit lower", 3) == [3]
    assert all(a > b for a, b in pairwise(made(sequences.orbit, "orbit thirds", 90)))
