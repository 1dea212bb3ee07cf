"""Dialogue lessons: every exchange comes up as it stands, some with a system prompt, some with a think block."""

from __future__ import annotations

from random import Random

import pytest

from octavo.data.lessons.dialogues import Dialogues
from octavo.text.special import Special
from tests.support.lesson_pack import lesson_pack, said, taught
from tests.support.small_text import SmallText


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return lesson_pack(tmp_path_factory.mktemp("pack"))


def test_every_exchange_comes_up(world: SmallText) -> None:
    draw, maker = Random(0), Dialogues(world.source)
    lessons = [maker.lesson(draw) for _ in range(200)]
    turns = {tuple(taught(lesson)) for lesson in lessons}
    assert ("Is the order right?", "It is ready soon.") in turns
    assert ("Gladly.",) in turns
    assert ("Never.",) in turns
    assert ("She has 3+4=7 apples.\nThe answer is 7.",) in turns
    assert (f"She has 3+4=7 apples.{Special.END_THINK}The answer is 7.",) in turns
    assert {lesson.kind for lesson in lessons} == {"dialogue"}


def test_half_have_a_system_prompt_that_is_not_taught(world: SmallText) -> None:
    draw, maker = Random(1), Dialogues(world.source)
    lessons = [maker.lesson(draw) for _ in range(400)]
    plain = sum(said(lesson).startswith(f"{Special.BOS}{Special.USER}") for lesson in lessons)
    assert 150 < plain < 250
    assert all(lesson.parts[0].piece is Special.BOS for lesson in lessons)


def test_the_same_draw_gives_the_same_lessons(world: SmallText) -> None:
    made = [[said(Dialogues(world.source).lesson(draw)) for _ in range(8)] for draw in (Random(5), Random(5))]
    assert made[0] == made[1]
