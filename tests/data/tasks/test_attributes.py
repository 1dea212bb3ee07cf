"""The table of attributes."""

from random import Random

from octavo.data.tasks.attributes import ATTRIBUTES, NAMES
from octavo.data.tasks.values import value


def test_there_are_hundreds_and_each_has_a_sort_that_can_be_drawn() -> None:
    assert len(NAMES) > 280
    assert all(value(Random(0), sort, lambda: "harbour") for sort in set(ATTRIBUTES.values()))


def test_names_are_clean() -> None:
    assert all(name == name.strip() and "\n" not in name and ":" not in name for name in NAMES)


def test_those_of_the_examples_are_there() -> None:
    assert ATTRIBUTES["secret number"] == "number"
    assert ATTRIBUTES["password"] == "word"
    assert ATTRIBUTES["favourite colour"] == "colour"
    assert ATTRIBUTES["harbour master"] == "person"
