"""Open-book lessons: the text wins over what the corpus says, new names are new, nothing that tests ask comes up."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from random import Random

import pytest

from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.lessons import material
from octavo.data.lessons.lesson import Lesson
from octavo.data.lessons.open_book import OpenBook, new_name
from octavo.text.special import Special
from tests.support.lesson_pack import lesson_pack, said, taught
from tests.support.small_text import SmallText

TOWNS = Path(__file__).parents[3] / "octavo" / "evals" / "towns_octavo_s.tsv"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def lessons(world: SmallText, count: int, seed: int = 0) -> list[Lesson]:
    draw, maker = Random(seed), OpenBook(world.source)
    return [maker.lesson(draw) for _ in range(count)]


def before(lesson: Lesson) -> list[str]:
    """What was given before each answer, from the beginning."""
    given, found, was = "", [], False
    for part in lesson.parts:
        if part.taught and not was:
            found.append(given)
        was = part.taught
        given += "" if isinstance(part.piece, Special) or part.taught else part.piece
    return found


def test_answers_stand_in_the_text_but_for_a_few_known_by_heart(world: SmallText) -> None:
    known = {fact.answer for fact in material.asked_facts(world.source)}
    missing = total = 0
    for lesson in lessons(world, 600):
        for given, answer in zip(before(lesson), taught(lesson), strict=True):
            total += 1
            if answer.strip() not in given:
                missing += 1
                assert answer.strip() in known
    assert 0 < missing < 0.12 * total


def test_most_texts_tell_something_else_than_the_corpus(world: SmallText) -> None:
    facts = {(fact.subject, fact.answer) for fact in material.asked_facts(world.source)}
    subjects = {subject for subject, _ in facts}
    otherwise = agreed = new = 0
    for lesson in lessons(world, 600, seed=1):
        asked = before(lesson)[0][len(before(lesson)[0].rpartition("\n")[0]) :]
        subject = next((one for one in subjects if one in asked), None)
        if subject is None:
            new += 1
        elif (subject, taught(lesson)[0].strip()) in facts:
            agreed += 1
        else:
            otherwise += 1
    assert otherwise > 150
    assert agreed > 100
    assert new > 100


def test_lines_are_as_the_test_asks_them(world: SmallText) -> None:
    seen = 0
    for lesson in lessons(world, 200, seed=2):
        if lesson.parts[1].piece is Special.USER or Special.USER in [part.piece for part in lesson.parts]:
            continue
        seen += 1
        assert re.search(r"\nQuestion: .+ Answer:$", lesson.parts[1].piece)
        assert all(answer.startswith(" ") and answer.endswith("\n") for answer in taught(lesson))
        assert lesson.parts[-1].piece is Special.EOS
    assert 70 < seen < 150


def test_wordings_and_facts_of_tests_never_come_up(world: SmallText) -> None:
    text = "\n".join(said(lesson) for lesson in lessons(world, 500, seed=3))
    for relation in WORDINGS.values():
        for fact in material.asked_facts(world.source):
            assert fill(relation.questions[-1], subject=fact.subject) not in text
            for statement in relation.statements[-2:]:
                assert fill(statement, subject=fact.subject, answer=fact.answer) not in text
    assert not re.search(r"\bPreist\b", text)


def test_new_names_have_another_number_of_syllables_than_towns_of_tests() -> None:
    draw = Random(4)
    names = {new_name(draw) for _ in range(2000)}
    assert {len(re.findall("[aeiou]+", name.lower())) for name in names} == {2, 4}
    with TOWNS.open(encoding="utf-8", newline="") as file:
        towns = {row["town"] for row in csv.DictReader(file, delimiter="\t")}
    assert {len(re.findall("[aeiou]+", town.lower())) for town in towns} == {3}
    assert len(towns) == 2000
