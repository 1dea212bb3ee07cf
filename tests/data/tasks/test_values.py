"""Values and the range kept for tests."""

from random import Random

from octavo.data.tasks.attributes import ATTRIBUTES
from octavo.data.tasks.values import HELD_OUT_STARTS, RESERVED, number, value


def test_ranges_of_numbers_are_apart() -> None:
    draw = Random(0)
    trained = [number(draw) for _ in range(2000)]
    tested = [number(draw, held_out=True) for _ in range(2000)]
    assert not [n for n in trained if n[:2] in HELD_OUT_STARTS]
    assert all(n[:2] in HELD_OUT_STARTS for n in tested)
    assert {len(n) for n in tested} == {5, 6, 7}
    assert {len(n) for n in trained} == {4, 5, 6, 7, 8}


def test_every_sort_gives_clean_varied_text() -> None:
    for sort in sorted(set(ATTRIBUTES.values())):
        draw = Random(1)
        made = [value(draw, sort, lambda: "harbour") for _ in range(150)]
        assert len(set(made)) > 25, sort
        assert all(text and text == text.strip() and "." not in text for text in made), sort


def test_values_of_the_examples_are_never_drawn() -> None:
    draw = Random(2)
    words = iter(["marigold", "anchor"] * 4000)
    made = {value(draw, "word", lambda: next(words)) for _ in range(2000)}
    assert not made & RESERVED


def test_held_out_values_keep_their_sort() -> None:
    draw = Random(3)
    assert all(value(draw, "number", lambda: "x", held_out=True).isdigit() for _ in range(300))
