"""Values: what a planted statement says of its entity, by sort.

Covers: numbers with their held-out range, years, words, names, times, sums of money, dates, quantities.
Does not cover: which attribute takes which sort (octavo.data.tasks.attributes).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from octavo.data.tasks import lists, names

Words = Callable[[], str]
# A number of the tests begins with one of these two digits; a number of the training rows never does.
HELD_OUT_STARTS = frozenset({"14", "19", "23", "37", "46", "52", "58", "61", "69", "74", "83", "85", "91", "97"})
# Values that the documentation's own examples plant: never drawn for training.
RESERVED = frozenset({"marigold", "Velmora", "48213", "velmora"})


def number(draw: Random, *, held_out: bool = False) -> str:
    """Digits, five to seven long (training: also four and eight), in the range of its use."""
    digits = draw.choice((5, 5, 6, 7)) if held_out else draw.choice((4, 5, 5, 5, 6, 6, 7, 7, 8))
    while True:
        text = str(draw.randrange(10 ** (digits - 1), 10**digits))
        if (text[:2] in HELD_OUT_STARTS) == held_out and text not in RESERVED:
            return text


def _word(draw: Random, words: Words) -> str:
    how = draw.random()
    if how < 0.1:
        word = names.coined(draw).lower()
    elif how < 0.25:  # a form that is rarely read: the whole word must be copied, not its likeliest one
        word = words() + draw.choice(("s", "ed", "est", "eth", "ing", "'d", "ness", "less", "er", "like", "ish"))
    else:
        word = words() if how < 0.65 else draw.choice(draw.choice((lists.NOUNS, lists.THINGS, lists.ANIMALS)))
    return word if word not in RESERVED else draw.choice(lists.NOUNS)


def _two_words(draw: Random, words: Words) -> str:
    if draw.random() < 0.5:
        return f"{_word(draw, words)} {_word(draw, words)}"
    return f"{draw.choice(lists.ADJECTIVES)} {draw.choice((*lists.THINGS, *lists.NOUNS))}"


def _time(draw: Random) -> str:
    hour, minute = draw.randint(1, 12), draw.randrange(60)
    small = draw.choice(lists.SMALL_NUMBERS[:11])
    return draw.choice(
        (f"{hour}:{minute:02d}", f"{draw.randrange(24)}:{minute:02d}", f"half past {small}", f"{small} o'clock",
         f"quarter to {small}", draw.choice(("noon", "midnight", "dawn", "dusk")), f"{hour} in the morning")
    )  # fmt: skip


def _money(draw: Random) -> str:
    coin = draw.choice(lists.COINS)
    return draw.choice(
        (f"{draw.randint(2, 999)} {coin}", f"{draw.choice(lists.SMALL_NUMBERS)} {coin}", f"£{draw.randint(2, 999)}",
         f"{draw.randint(2, 60)},{draw.randrange(1000):03d} {coin}", f"${draw.randint(2, 9999)}")
    )  # fmt: skip


def _date(draw: Random) -> str:
    day, month = draw.randint(1, 28), draw.choice(lists.MONTHS)
    ordinal = draw.choice(lists.ORDINALS[:12])
    return draw.choice(
        (f"{day} {month}", f"{month} {day}", f"the {ordinal} of {month}", draw.choice(lists.WEEKDAYS), month,
         f"{day} {month} {draw.randint(1500, 2050)}")
    )  # fmt: skip


def _place(draw: Random) -> str:
    if draw.random() < 0.75:
        return names.town(draw)
    return f"the {draw.choice(lists.ADJECTIVES)} {draw.choice(lists.THINGS)}"


_SORTS: dict[str, Callable[[Random, Words], str]] = {
    "number": lambda draw, words: number(draw),
    "year": lambda draw, words: str(draw.randint(1050, 2090)),
    "word": _word,
    "pair": _two_words,
    "colour": lambda draw, words: draw.choice(lists.COLOURS),
    "person": lambda draw, words: names.person(draw),
    "place": lambda draw, words: _place(draw),
    "time": lambda draw, words: _time(draw),
    "money": lambda draw, words: _money(draw),
    "date": lambda draw, words: _date(draw),
    "thing": _two_words,
    "food": lambda draw, words: draw.choice(lists.FOODS).strip() if draw.random() < 0.6 else _two_words(draw, words),
    "trade": lambda draw, words: draw.choice(lists.TRADES),
    "animal": lambda draw, words: draw.choice(lists.ANIMALS),
    "quantity": lambda draw, words: (
        f"{draw.randint(2, 990)} {draw.choice(lists.UNITS)}" if draw.random() < 0.7 else str(draw.randint(2, 999))
    ),
}
_ANY = ("number", "number", "word", "word", "pair", "person", "place", "colour")


def value(draw: Random, sort: str, words: Words, *, held_out: bool = False) -> str:
    """A value of `sort`; one time in twelve of any sort, so that the attribute alone never tells. Test values of sort
    number come from the held-out range. `words` gives a real word each time it is called."""
    if sort == "number" and held_out:
        return number(draw, held_out=True)
    if draw.random() < 1 / 12 and not held_out:
        sort = draw.choice(_ANY)
    return _SORTS[sort](draw, words)
