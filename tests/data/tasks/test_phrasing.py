"""Grammars: draws, every wording has its fields once, no test wording comes out of training, dressing, frames."""

from __future__ import annotations

from random import Random

from octavo.data.tasks import phrases_facts, phrases_quotes, wordings
from octavo.data.tasks.phrasing import LEADS, TAILS, Phrasing, dressed, framed
from octavo.data.tasks.relations import RELATIONS
from octavo.data.tasks.wordings import Wordings
from tests.support.phrases import bare

TABLES = {name: table for name, table in vars(wordings).items() if isinstance(table, Wordings)}


def test_alternatives_are_drawn_and_listed() -> None:
    made = Phrasing("[a|b] {x}[!|]", "c")
    assert sorted(made.all()) == ["a {x}", "a {x}!", "b {x}", "b {x}!", "c"]
    draw = Random(0)
    assert {made.pick(draw) for _ in range(200)} == set(made.all())
    assert [made.pick(Random(7)) for _ in range(3)] == [made.pick(Random(7))] * 3


def test_no_test_wording_is_composed_of_lead_question_and_tail() -> None:
    for name, table in TABLES.items():
        if not name.endswith("QUESTIONS"):
            continue
        assert table.more is not None
        cores = {bare(wording) for wording in [*table.more.all(), *table.train]}
        for test in map(bare, table.test):
            for lead in ("", *map(bare, LEADS)):
                for tail in ("", *map(bare, TAILS)):
                    if test.startswith(lead) and test.endswith(tail):
                        assert test[len(lead) : len(test) - len(tail)].strip() not in cores


def test_dressing_keeps_the_question_and_its_first_letter_reads_on() -> None:
    draw = Random(3)
    seen = {dressed("What is it?", draw) for _ in range(3000)}
    assert "What is it?" in seen
    assert all("hat is it?" in text for text in seen)
    assert "In the book, what is it?" in seen
    assert not any("In the book, What" in text for text in seen)
    quoted = {dressed("Alba, key?", draw) for _ in range(3000)}
    assert "In the book, Alba, key?" in quoted


def test_frames_keep_fields_and_never_make_a_test_wording() -> None:
    draw = Random(5)
    for relation in RELATIONS:
        tests = {bare(wording) for wording in relation.statements.test}
        for wording in relation.statements.train:
            for _ in range(60):
                made = framed(wording, draw)
                assert (made.count("{e}"), made.count("{v}")) == (1, 1)
                assert bare(made) not in tests


def test_all_tables_have_a_grammar() -> None:
    grammars = [v for m in (phrases_facts, phrases_quotes) for v in vars(m).values() if isinstance(v, Phrasing)]
    assert len(grammars) == len(TABLES)
