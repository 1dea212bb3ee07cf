"""Edits of words: drawn ones say what they do."""

from __future__ import annotations

from random import Random

from octavo.data.programs.edits import CHARACTER_EDITS, CHOSEN_EDITS, WORD_EDITS
from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Scope


def test_what_edits_make() -> None:
    made = {one.key: one for seed in range(60) for maker in WORD_EDITS for one in (maker(Scope(draw=Random(seed))),)}
    told = {key: made[key].run("onion", {}) for key in ("length", "vowel count", "upper", "capital", "reverse", "tail")}
    assert told == {
        "length": 5,
        "vowel count": 3,
        "upper": "ONION",
        "capital": "Onion",
        "reverse": "noino",
        "tail": "nion",
    }
    assert {made["length"].out, made["vowel count"].out, made["letter count"].out} == {NUMBER}
    assert all("{}" in one.verb and "{}" in one.noun for one in made.values())


def test_capital_letters_are_no_small_vowels() -> None:
    made = {one.key: one for seed in range(60) for maker in WORD_EDITS for one in (maker(Scope(draw=Random(seed))),)}
    assert "small vowels" in made["vowel count"].verb
    assert "small vowels" in made["vowel count"].noun
    assert made["vowel count"].run("Eve", {}) == 1
    assert "small vowel" in made["mask vowels"].verb
    assert "small vowel" in made["mask vowels"].noun
    assert made["mask vowels"].run("Eve", {})[:2] == "Ev"


def test_two_characters_are_a_word() -> None:
    made = [maker(Scope(draw=Random(seed))) for seed in range(30) for maker in CHARACTER_EDITS]
    assert {one.out for one in made if one.out != NUMBER and len(one.run("7", {})) > 1} == {WORD}
    assert {one.out for one in made if one.out != NUMBER and len(one.run("7", {})) == 1} == {CHARACTER}


def test_those_that_choices_take_make_words() -> None:
    assert {maker(Scope(draw=Random(seed))).out for seed in range(20) for maker in CHOSEN_EDITS} == {WORD}
    outs = {maker(Scope(draw=Random(seed))).out for seed in range(20) for maker in CHARACTER_EDITS}
    assert outs == {CHARACTER, NUMBER, WORD}
