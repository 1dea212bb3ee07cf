"""Endings: what they make of a list, empty ones included."""

from __future__ import annotations

from random import Random

from octavo.data.programs.endings import ending
from octavo.data.programs.piece import CHARACTER, NUMBER, RECORD, WORD, Scope

FIELDS = {"name": "person", "age": "age", "city": "place"}


def drawn(kind: str) -> dict:
    made = (ending(Scope(draw=Random(seed)), kind, FIELDS if kind == RECORD else {}, "one") for seed in range(700))
    return {one.key: one for one in made}


def test_endings_of_numbers() -> None:
    by_key, numbers = drawn(NUMBER), [3, 8, -2, 8]
    wanted = {
        "list": numbers, "sum": 17, "product": -384, "alternating": -15, "max": 8, "min": -2, "place of max": 1,
        "spread": 10, "count": 4, "any(even)": True, "all(even)": False, "count(even)": 3, "first(even)": 8,
        "last place(even)": 3, "split(even)": [[8, -2, 8], [3]], "different": 3,
    }  # fmt: skip
    assert {key: by_key[key].run(numbers, {}) for key in wanted} == wanted
    nothing = {
        "sum": 0,
        "product": 1,
        "max": None,
        "place of max": -1,
        "spread": 0,
        "any(even)": False,
        "all(even)": True,
    }
    assert {key: by_key[key].run([], {}) for key in nothing} == nothing
    assert all("{}" in one.noun and "return" in one.verb for one in by_key.values())


def test_every_kind_has_its_own() -> None:
    assert {"sum by", "count by", "best largest"} <= set(drawn(RECORD))
    assert {"longest", "group length", "total length"} <= set(drawn(WORD))
    assert {"join bare", "frequencies"} <= set(drawn(CHARACTER))
