"""Headings of chapters in many layouts.

Covers: a book's run of headings, the part of each that names the chapter. Does not cover: where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.data.tasks import lists, names

_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading's line in three parts; `answer` names the chapter."""

    before: str
    answer: str
    after: str


def roman(number: int) -> str:
    """Roman numeral of 1 to 399."""
    out = ""
    for value, sign in (
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ):
        out += sign * (number // value)
        number %= value
    return out


def spelled(number: int) -> str:
    """English words of 1 to 99, digits beyond."""
    if number < 20:
        return (["", *_UNITS, *_TEENS])[number]
    if number > 99:
        return str(number)
    tens = _TENS[number // 10 - 2]
    return f"{tens}-{_UNITS[number % 10 - 1]}" if number % 10 else tens


def _title(draw: Random) -> str:
    return draw.choice(
        (f"The {draw.choice(lists.ADJECTIVES).capitalize()} {draw.choice(lists.THINGS).capitalize()}",
         f"{draw.choice(lists.GIVEN)} and the {draw.choice(lists.ANIMALS).capitalize()}",
         f"In {names.town(draw)}",
         f"{draw.choice(lists.NOUNS).capitalize()} and {draw.choice(lists.NOUNS).capitalize()}")
    )  # fmt: skip


def headings(draw: Random, count: int) -> list[Heading]:
    """`count` headings of one book, all in one layout, numbers rising."""
    word = draw.choice(("CHAPTER", "Chapter", "Chapter", "Part", "BOOK", "Letter", "Section"))
    numeral = draw.choice((str, str, roman, roman, lambda n: spelled(n).capitalize(), lambda n: spelled(n).upper()))
    mark = draw.choice(("", "", "## ", "# ", "### "))
    titled = draw.random() < 0.5
    joint = draw.choice((". ", ": ", "\n\n", " - "))
    full_stop = draw.choice(("", "", "."))
    number = draw.randint(1, 20)
    made = []
    for _ in range(count):
        answer = f"{word} {numeral(number)}"
        made.append(Heading(mark, answer, f"{joint}{_title(draw)}" if titled else full_stop))
        number += 1
    return made
