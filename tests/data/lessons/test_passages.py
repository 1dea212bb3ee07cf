"""Questions over passages: each answer follows from the passage, in every kind."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from octavo.data.lessons.passages import _KINDS, NOT_SAID, Passages, about_document
from octavo.data.tasks import lists
from octavo.text.special import Special
from tests.support.lesson_pack import lesson_pack, said, taught
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


@pytest.mark.parametrize("kind", ["fact", "rest", "next"])
def test_answers_stand_in_the_passage(world: SmallText, kind: str) -> None:
    draw, maker = Random(0), Passages(world.source)
    for _ in range(60):
        made = maker.passage(draw, kind)
        assert made.answer.lower() in made.text.lower()
        assert made.answer not in made.question or kind == "fact"
        assert made.kind == kind
        assert not made.unsaid


def test_what_is_not_said_is_not_in_the_passage(world: SmallText) -> None:
    draw, maker = Random(1), Passages(world.source)
    for _ in range(40):
        made = maker.passage(draw, "unsaid")
        assert made.unsaid
        assert made.answer == NOT_SAID


def test_a_sentence_goes_on_as_in_the_passage(world: SmallText) -> None:
    draw, maker = Random(2), Passages(world.source)
    for _ in range(40):
        made = maker.passage(draw, "rest")
        befores = [made.text[: at.start()].split()[-4:] for at in re.finditer(re.escape(" " + made.answer), made.text)]
        assert any(" ".join(before) in made.question for before in befores)


def test_the_next_sentence_stands_right_behind(world: SmallText) -> None:
    draw, maker = Random(7), Passages(world.source)
    for _ in range(40):
        made = maker.passage(draw, "next")
        before = made.text[: made.text.index(made.answer)].split()[-4:]
        assert " ".join(before) in made.question


def test_a_gap_holds_the_word_that_was_there(world: SmallText) -> None:
    draw, maker = Random(3), Passages(world.source)
    for _ in range(40):
        made = maker.passage(draw, "gap")
        left, right = re.search(r'[^"]*____[^"]*', made.question)[0].split("____")  # pyright: ignore
        assert left.split(": ")[-1] + made.answer + right in made.text
        assert made.answer in lists.GIVEN


def test_a_claim_is_true_as_it_stands_and_false_with_another_name(world: SmallText) -> None:
    draw, maker, found = Random(8), Passages(world.source), set()
    for _ in range(60):
        made = maker.passage(draw, "true")
        claim = re.search(r'"(.+)"', made.question)[1]  # pyright: ignore
        assert (claim in made.text) == (made.answer == "Yes.")
        found.add(made.answer)
    assert found == {"Yes.", "No."}


def test_prose_without_names_gives_other_kinds(tmp_path: Path) -> None:
    maker, draw = Passages(small_text(tmp_path, paragraphs=60).source), Random(3)
    with pytest.raises(RuntimeError, match="no passage of 40 has room for a question of kind gap"):
        maker.passage(draw, "gap")
    assert all(maker.lesson(draw).kind == "passage" for _ in range(30))


def test_the_answer_begins_with_a_space_behind_a_document_alone(world: SmallText) -> None:
    draw, maker = Random(4), Passages(world.source)
    made = maker.passage(draw, "fact")
    lesson = about_document(made)
    assert taught(lesson) == [" " + made.answer]
    assert lesson.parts[1].piece == made.text
    draw = Random(5)
    lessons = [maker.lesson(draw) for _ in range(40)]
    pasted = [one for one in lessons if one.parts[1].piece is Special.USER]
    assert 8 < len(pasted) < 32
    assert all(taught(one)[0][0] != " " for one in pasted)
    assert all(taught(one)[0][0] == " " for one in lessons if one not in pasted)


def test_the_same_draw_gives_the_same_lesson(world: SmallText) -> None:
    made = [[said(Passages(world.source).lesson(draw)) for _ in range(6)] for draw in (Random(6), Random(6))]
    assert made[0] == made[1]
    assert abs(sum(_KINDS.values()) - 1) < 1e-9
