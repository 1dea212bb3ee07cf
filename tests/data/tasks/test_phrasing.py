"""Grammars: parsing, draws, lists, counting, and what a grammar covers."""

from __future__ import annotations

from random import Random

import pytest

from octavo.data.tasks.phrasing import Phrasing


def drawn(made: Phrasing, times: int = 400) -> set[str]:
    draw = Random(0)
    return {made.pick(draw) for _ in range(times)}


def test_alternatives_are_drawn_and_counted() -> None:
    made = Phrasing("[a|b] {x}[!|]", "c")
    assert drawn(made) == {"a {x}", "a {x}!", "b {x}", "b {x}!", "c"}
    assert made.count() == 5
    assert [made.pick(Random(7)) for _ in range(3)] == [made.pick(Random(7))] * 3


def test_brackets_hold_brackets_and_lists_hold_lists() -> None:
    made = Phrasing("<who> [ran [home|off]|sat]", who=("I", "<others>"), others=("you", "[they|we]"))
    assert drawn(made) == {f"{who} {did}" for who in ("I", "you", "they", "we") for did in ("ran home", "ran off", "sat"
    )}
    assert made.count() == 12


def test_what_is_wrong_with_a_template_is_said() -> None:
    with pytest.raises(ValueError, match="bracket"):
        Phrasing("[a|b")
    with pytest.raises(KeyError, match="verb"):
        Phrasing("<verb> it")


def test_a_bar_outside_of_brackets_is_text() -> None:
    assert drawn(Phrasing("a | b")) == {"a | b"}


def test_covers_is_blind_to_marks_only() -> None:
    made = Phrasing('[Who|Which man] says "{q}"?', "It is <n>, isn't it", n=("{q}", "the word {q}"))
    assert made.covers("who says {q}")
    assert made.covers("it is the word {q} isn t it")
    assert not made.covers("who said {q}")
    assert not made.covers("who says {q} now")
