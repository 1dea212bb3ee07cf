"""Headings."""

from random import Random

import pytest

from octavo.data.tasks.chapter import headings, roman, spelled


@pytest.mark.parametrize(("number", "text"), [(1, "I"), (4, "IV"), (9, "IX"), (14, "XIV"), (40, "XL"), (99, "XCIX")])
def test_roman(number: int, text: str) -> None:
    assert roman(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(1, "one"), (13, "thirteen"), (20, "twenty"), (42, "forty-two"), (120, "120")]
)
def test_spelled(number: int, text: str) -> None:
    assert spelled(number) == text


def test_headings_of_a_book_share_a_layout_and_differ() -> None:
    for seed in range(60):
        made = headings(Random(seed), 12)
        assert len({h.answer for h in made}) == 12
        assert len({h.before for h in made}) == 1
        assert len({h.answer.split()[0] for h in made}) == 1
