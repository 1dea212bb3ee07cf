"""Exact match and intervals."""

import pytest

from octavo.evals.scoring import is_right, normalised, part_right, wilson


@pytest.mark.parametrize(
    ("given", "expected", "right"),
    [(" 48213.", "48213", True), ("Marigold", "marigold", True), ("LORD  POLONIUS", "Lord Polonius", True),
     ('"the rest!"', "the rest", True), ("48214", "48213", False), ("4821", "48213", False), ("", "48213", False),
     ("the rest of it", "the rest", False)],
)  # fmt: skip
def test_match(given: str, expected: str, right: bool) -> None:
    assert is_right(given, expected) is right


def test_normalising_keeps_inner_marks() -> None:
    assert normalised("It's 4:15, he\nsaid.") == "it's 4:15, he said"


def test_wilson_against_known_values() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10) == pytest.approx((0.72246, 1.0), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.27754), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-4)


def test_parts_of_lists_count_in_any_order() -> None:
    assert part_right("b, A.", "a, b") == 1
    assert part_right("a", "a, b, c") == pytest.approx(0.5)
    assert part_right("a, x, y", "a, b") == pytest.approx(0.4)
    assert part_right("", "a, b") == part_right("c", "a") == 0
