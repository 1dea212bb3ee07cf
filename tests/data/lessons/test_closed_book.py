"""Closed-book lessons: trained wordings alone, answers as the corpus states them."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from octavo.config.errors import ConfigError
from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.lessons import material
from octavo.data.lessons.closed_book import ClosedBook
from octavo.data.prose import TextSource
from octavo.text.special import Special
from tests.support.lesson_pack import lesson_pack, said, taught
from tests.support.small_text import SmallText


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def test_answers_are_those_of_the_corpus_in_every_form(world: SmallText) -> None:
    facts = material.asked_facts(world.source)
    draw, maker = Random(0), ClosedBook(world.source)
    lessons = [maker.lesson(draw) for _ in range(300)]
    forms = {"lines": 0, "statements": 0, "messages": 0}
    for lesson in lessons:
        is_chat = lesson.parts[1].piece is Special.USER
        form = "messages" if is_chat else "lines" if lesson.parts[1].piece.startswith("Question: ") else "statements"
        forms[form] += 1
        turns = taught(lesson)
        given = [part.piece for part in lesson.parts if not part.taught and not isinstance(part.piece, Special)]
        assert len(turns) == len(given) <= (3 if is_chat else 8)
        for asked, answer in zip(given, turns, strict=True):
            fact = next(one for one in facts if one.subject in asked and one.answer in answer)
            assert answer == f" {fact.answer}\n" or is_chat or form == "statements"
            assert asked.endswith("Answer:") == (form == "lines")
    assert all(count > 30 for count in forms.values())
    shown = {turn.strip() for lesson in lessons for turn in taught(lesson)}
    assert {fact.answer for fact in facts} <= shown


def test_questions_come_in_many_wordings(world: SmallText) -> None:
    draw, maker = Random(3), ClosedBook(world.source)
    text = "\n".join(said(maker.lesson(draw)) for _ in range(800))
    asked = set(re.findall(r"Question: ([^\n]*Velmora[^\n]*) Answer:", text))
    assert len(asked) > 60
    assert asked & {fill(question, subject="Velmora") for question in WORDINGS["river"].trained_questions}


def test_wordings_and_facts_of_tests_never_come_up(world: SmallText) -> None:
    draw, maker = Random(1), ClosedBook(world.source)
    text = "\n".join(said(maker.lesson(draw)) for _ in range(500))
    for relation in WORDINGS.values():
        for fact in material.asked_facts(world.source):
            assert fill(relation.questions[-1], subject=fact.subject) not in text
            for statement in relation.statements[-2:]:
                assert fill(statement, subject=fact.subject, answer=fact.answer) not in text
    assert "Preist" not in text


def test_a_pack_whose_facts_are_never_asked_is_refused(world: SmallText, tmp_path: Path) -> None:
    tokens = world.encode(["The river of Velmora is the Sarn. " * 60])[0]
    import numpy as np

    alone = TextSource(
        np.array(tokens * 2, dtype=np.uint16), np.array([0, len(tokens)]), np.array([len(tokens), 2 * len(tokens)]),
        ["books", "facts"], world.source.vocabulary,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="asks for no fact"):
        ClosedBook(alone)
