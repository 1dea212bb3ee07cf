"""Closed-book lessons: trained wordings alone, answers as the corpus states them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from octavo.config.errors import ConfigError
from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.lessons import material
from octavo.data.lessons.closed_book import ClosedBook
from octavo.data.prose import TextSource
from tests.support.lesson_pack import lesson_pack, said, taught
from tests.support.small_text import SmallText


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def test_questions_and_answers_are_of_trained_wordings(world: SmallText) -> None:
    facts = material.asked_facts(world.source)
    answers, questions = set(), set()
    for fact in facts:
        wording = WORDINGS[fact.relation]
        questions |= {fill(q, subject=fact.subject) for q in wording.trained_questions}
        answers |= {fill(s, subject=fact.subject, answer=fact.answer) for s in wording.trained_statements}
    draw, maker = Random(0), ClosedBook(world.source)
    lessons = [maker.lesson(draw) for _ in range(300)]
    given = [turn for lesson in lessons for turn in taught(lesson)]
    assert set(given) <= answers | {fact.answer for fact in facts}
    assert {fact.answer for fact in facts} <= set(given)
    assert set(given) & answers
    asked = [part.piece for lesson in lessons for part in lesson.parts if not part.taught and "?" in part.piece]
    assert len(set(asked)) > 15
    assert all(any(text.startswith(question) for question in questions) for text in asked)
    assert max(len(taught(lesson)) for lesson in lessons) == 3


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
