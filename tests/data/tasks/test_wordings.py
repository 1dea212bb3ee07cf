"""Wordings: enough of them, fields as promised, none in both halves."""

from random import Random

import pytest

from octavo.data.tasks import wordings
from octavo.data.tasks.wordings import Wordings

TABLES = {name: table for name, table in vars(wordings).items() if isinstance(table, Wordings)}


@pytest.mark.parametrize("name", list(TABLES))
def test_halves_are_apart(name: str) -> None:
    table = TABLES[name]
    assert not {w.lower() for w in table.train} & {w.lower() for w in table.test}
    assert all(w in table.test for w in (table.pick(Random(s), held_out=True) for s in range(30)))
    assert all(w in table.train for w in (table.pick(Random(s), plain=True) for s in range(30)))
    assert table.more is not None
    drawn = [table.pick(Random(s)) for s in range(60)]
    assert any(w in table.train for w in drawn)
    assert any(w not in table.train for w in drawn)
    assert not any(w in table.test for w in drawn)


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
