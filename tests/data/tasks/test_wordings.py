"""Wordings: enough of them, fields as promised, none in both halves."""

from random import Random

import pytest

from octavo.data.tasks import wordings
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.wordings import Wordings, near

TABLES = {name: table for name, table in vars(wordings).items() if isinstance(table, Wordings)}


@pytest.mark.parametrize("name", list(TABLES))
def test_halves_are_apart(name: str) -> None:
    table = TABLES[name]
    assert not {w.lower() for w in table.train} & {w.lower() for w in table.test}
    assert all(w in table.test for w in (table.pick(Random(s), held_out=True) for s in range(30)))
    assert all(w in table.train for w in (table.pick(Random(s), plain=True) for s in range(30)))
    assert table.more is not None
    drawn = [table.pick(Random(s)) for s in range(80)]
    assert any(w in table.train for w in drawn)
    assert any(w not in table.train for w in drawn)
    assert not any(near(w, table.test) for w in drawn if w not in table.train)


def test_what_is_near() -> None:
    kept = ("The clerk noted {v} as the {a} of {e}.", "{a} of {e}?")
    for close in ("the clerk NOTED {v} as the {a} of {e}", "The notary noted {v} as the {a} of {e}.",
                  "The old clerk noted {v} as the {a} of {e}.", "Clerk noted {v} as the {a} of {e}.",
                  "{a} of {e}!"):  # fmt: skip
        assert near(close, kept), close
    for far in ("The notary wrote down {v} as the {a} of {e}.", "{a} for {e}?", "The {a} of {e} is {v}."):
        assert not near(far, kept), far


def test_authored_wordings_are_drawn_and_near_ones_drawn_again() -> None:
    table = Wordings(
        (), ("We gave {v} to {e} for good.",), authored=Phrasing("[We|They] gave {v} to {e} for good.", "{e}: {v}")
    )
    assert {table.pick(Random(s)) for s in range(40)} == {"{e}: {v}"}
    assert {table.pick(Random(s), held_out=True) for s in range(4)} == set(table.test)


@pytest.mark.parametrize("name", [n for n in TABLES if n.endswith("STATEMENTS")])
def test_statements_hold_the_value_once(name: str) -> None:
    table = TABLES[name]
    assert all(w.count("{v}") == 1 for w in table.train + table.test)
    assert len(set(table.train)) >= 12
    assert len(table.test) >= 2


@pytest.mark.parametrize("name", ["FACT_QUESTIONS", "QUOTE_QUESTIONS", "SPEAKER_QUESTIONS", "CHAPTER_QUESTIONS",
                                  "DEFINITION_QUESTIONS", "KEY_QUESTIONS"])  # fmt: skip
def test_questions_are_many(name: str) -> None:
    assert len(set(TABLES[name].train)) >= 12
    assert len(TABLES[name].test) >= 4
    assert not any("{v}" in w for w in TABLES[name].train + TABLES[name].test)
