"""What stands around questions and statements: it never makes a test wording, and keeps what it is put around."""

from __future__ import annotations

from random import Random

from octavo.data.tasks import wordings
from octavo.data.tasks.frames import CLUTTER, LEADS, TAILS, dressed, framed
from octavo.data.tasks.relations import RELATIONS
from octavo.data.tasks.wordings import Wordings, bare

TABLES = {name: table for name, table in vars(wordings).items() if isinstance(table, Wordings)}


def test_no_test_wording_is_composed_of_lead_question_and_tail() -> None:
    for name, table in TABLES.items():
        if not name.endswith("QUESTIONS"):
            continue
        assert table.more is not None
        for test in map(bare, table.test):
            for lead in ("", *map(bare, LEADS)):
                for tail in ("", *map(bare, TAILS)):
                    if (lead or tail) and test.startswith(lead) and test.endswith(tail):
                        core = test[len(lead) : len(test) - len(tail)].strip()
                        assert not table.more.covers(core), (test, core)
                        assert core not in set(map(bare, table.train))


def test_dressing_keeps_the_question_and_its_first_letter_reads_on() -> None:
    draw = Random(3)
    seen = {dressed("What is it?", draw) for _ in range(8000)}
    assert "What is it?" in seen
    assert all("hat is it?" in text for text in seen)
    assert "In the book, what is it?" in seen
    assert not any("In the book, What" in text for text in seen)
    quoted = {dressed("Alba, key?", draw) for _ in range(8000)}
    assert "In the book, Alba, key?" in quoted


def test_clutter_is_a_sentence_without_fields() -> None:
    draw = Random(4)
    made = {CLUTTER.pick(draw) for _ in range(300)}
    assert len(made) > 250
    assert all(text[0].isupper() and text[-1] in ".!" and not set(text) & set("{}<>[]|") for text in made)


def test_frames_keep_fields_and_never_make_a_test_wording() -> None:
    draw = Random(5)
    for relation in RELATIONS:
        tests = {bare(wording) for wording in relation.statements.test}
        for wording in relation.statements.train:
            for _ in range(60):
                made = framed(wording, draw)
                assert (made.count("{e}"), made.count("{v}")) == (1, 1)
                assert bare(made) not in tests
