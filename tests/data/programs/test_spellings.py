"""Rules on words and characters: what they say is what they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest

from octavo.data.programs.piece import Scope
from octavo.data.programs.spellings import CHARACTER_RULES, WORD_RULES

WORDS = ("Ann", "Eve", "eve", "Oslo", "oslo", "KYOTO", "Ember", "ice", "x", "F", "Otto", "orange")
SIGNS = ("A", "a", "E", "e", "M", "m", "N", "n", "Z", "z", "0", "9", " ", "-")
QUOTED = re.compile(r'"([^"]*)"')
READ: tuple[tuple[str, Callable[[str, list[str]], bool]], ...] = (
    ("(?:starts|begins) with a small vowel", lambda x, _: re.match("[aeiou]", x) is not None),
    ("(?:starts|begins) with ", lambda x, q: x[: len(q[0])] == q[0]),
    ("ends with ", lambda x, q: x[-len(q[0]) :] == q[0]),
    ("contains ", lambda x, q: q[0] in x),
    ("does not contain ", lambda x, q: q[0] not in x),
    ("comes before .* in the alphabet", lambda x, q: ord(x[0]) | 32 < ord(q[0])),
    ("begins and ends with the same character", lambda x, _: x[0] == x[-1]),
    ("is a small vowel", lambda x, _: x in list("aeiou")),
    ("is a small consonant", lambda x, _: x.islower() and x not in list("aeiou")),
    ("is a digit", lambda x, _: x.isdigit()),
    ("is a capital letter", lambda x, _: x.isupper()),
    ("is a small letter$", lambda x, _: x.islower()),
    ("is a small letter from a to m", lambda x, _: x in list("abcdefghijklm")),
    ("is not ", lambda x, q: x != q[0]),
    ('is "', lambda x, q: x in q),
    ("equals ", lambda x, q: x == q[0]),
)
"""Sentences as a reader takes them: a value is one word or one character."""


@pytest.mark.parametrize(("makers", "values"), [(WORD_RULES, WORDS), (CHARACTER_RULES, SIGNS)])
def test_sentences_hold_for_capital_letters(makers: tuple, values: tuple[str, ...]) -> None:
    read = set()
    for seed in range(40):
        for made in (maker(Scope(draw=Random(seed))) for maker in makers):
            found = next(((said, holds) for said, holds in READ if re.match(said, made.one)), None)
            if found is None:
                assert re.match("has (an even length|more than|fewer than|exactly)", made.one), made.one
                continue
            read.add(found[0])
            quoted = QUOTED.findall(made.one)
            assert [made.run(x, {}) for x in values] == [found[1](x, quoted) for x in values], made.one
    assert len(read) >= 7


def test_words_and_meaning() -> None:
    by_key = {made.key: made for one in (*WORD_RULES, *CHARACTER_RULES) for made in (one(Scope(draw=Random(3))),)}
    assert by_key["vowel first"].run("ox", {})
    assert not by_key["vowel first"].run("", {})
    assert by_key["same ends"].run("tart", {})
    assert [c for c in "aBc9 é" if by_key["consonant"].run(c, {})] == ["c"]
    assert [c for c in "aB9" if by_key["digit"].run(c, {})] == ["9"]
    longer = by_key["longer"]
    size = int("".join(filter(str.isdigit, longer.one)))
    assert longer.run("a" * (size + 1), {})
    assert not longer.run("a" * size, {})
    assert all(made.one and made.many and made.js != made.neg for made in by_key.values())
