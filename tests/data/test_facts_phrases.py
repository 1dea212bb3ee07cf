"""Trained wordings of facts beyond the corpus: many for each relation, whole fields, none that tests keep."""

from __future__ import annotations

import re
from random import Random

import pytest

from octavo.data.facts_phrases import phrases, sections
from octavo.data.facts_wordings import WORDINGS
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.wordings import bare, near

QUESTIONS, STATEMENTS = sections("train_triple_questions"), sections("train_triple_statements")


@pytest.mark.parametrize("relation", WORDINGS)
def test_there_are_many_and_none_is_kept_for_tests(relation: str) -> None:
    kept = WORDINGS[relation]
    for templates, least, most, held in (
        (QUESTIONS[relation], 12, 40, kept.questions[-1:]), (STATEMENTS[relation], 5, 10, kept.statements[-2:]),
    ):  # fmt: skip
        assert len(set(templates)) == len(templates) >= least
        grammar = Phrasing(*templates)
        assert grammar.count() >= most
        assert not any(grammar.covers(bare(wording)) for wording in held)
        draw = Random(0)
        close = sum(near(grammar.pick(draw), held) for _ in range(300))
        assert close < 30  # such a draw is drawn again


@pytest.mark.parametrize("relation", WORDINGS)
def test_every_template_has_its_fields_once_whatever_is_drawn(relation: str) -> None:
    draw = Random(1)
    for templates, fields in ((QUESTIONS[relation], ["{s}"]), (STATEMENTS[relation], ["{o}", "{s}"])):
        for template in templates:
            made = [Phrasing(template).pick(draw) for _ in range(20)]
            assert all(sorted(re.findall("{.}", text)) == fields for text in made), template
            assert all("  " not in text and text == text.strip() for text in made), template
            assert not any(re.search(r"[\[\]|]", text) for text in made), template


@pytest.mark.parametrize("relation", WORDINGS)
def test_sentences_name_subject_and_answer_as_they_are(relation: str) -> None:
    draw, one = Random(2), phrases()[relation]
    asked = [one.question(draw, "velmora") for _ in range(200)]
    assert len({text.replace("velmora", "") for text in asked}) > 50
    assert all(text.count("velmora") == 1 for text in asked)
    for _ in range(100):
        said = one.statement(draw, "velmora", "Sarn")
        assert said.count("velmora") == said.count("Sarn") == 1
        head, answer = one.ending(draw, "velmora", "Sarn")
        assert "velmora" in head
        assert "Sarn" not in head
        assert head == head.rstrip()
        assert answer in (" Sarn", "Sarn")


def test_an_answer_with_a_vowel_has_its_article() -> None:
    draw, one = Random(4), phrases()["kind_of"]
    heads = [one.ending(draw, "robin", "animal")[0].rsplit(" ", 1)[-1] for _ in range(500)]
    assert "an" in heads
    assert "a" not in heads


def test_the_corpus_has_its_share() -> None:
    draw, one = Random(3), phrases()["river"]
    known = {text.replace("{s}", "X") for text in WORDINGS["river"].trained_questions}
    share = sum(one.question(draw, "X") in known for _ in range(1000)) / 1000
    assert 0.1 < share < 0.4
