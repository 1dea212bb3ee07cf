"""Cells of planted things."""

import pytest

from octavo.data.tasks.cell import build_cell
from tests.support.small_text import SmallText, small_prose, small_text

TEXT = small_prose(400, seed=11)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


@pytest.mark.parametrize("kind", ["fact", "definition", "key_value"])
def test_answers_stand_in_their_source(world: SmallText, kind: str) -> None:
    cell = build_cell(kind, 4000, 10**9, text=TEXT, tokenizer=world.tokenizer, count=24)
    assert len(cell.questions) == 24
    assert all(q.answer in cell.document[slice(*q.source)] for q in cell.questions)
    assert len({q.source for q in cell.questions}) == 24


@pytest.mark.parametrize("kind", ["fact", "definition"])
def test_depths_are_even_and_statements_stand_between_paragraphs(world: SmallText, kind: str) -> None:
    cell = build_cell(kind, 6000, 10**9, text=TEXT, tokenizer=world.tokenizer, count=20)
    for index, question in enumerate(cell.questions):
        assert abs(question.depth - (index + 0.5) / 20) < 0.06
        start, end = question.source
        assert start == 0 or cell.document[start - 2 : start] == "\n\n"
        assert cell.document[end : end + 2] == "\n\n"


def test_facts_carry_marks(world: SmallText) -> None:
    cell = build_cell("fact", 6000, 10**9, text=TEXT, tokenizer=world.tokenizer, count=32)
    assert {q.marks[0] for q in cell.questions} == {"seen", "unseen"}


def test_chapters_are_those_above_the_quotation(world: SmallText) -> None:
    cell = build_cell("chapter", 6000, 10**9, text=TEXT, tokenizer=world.tokenizer, count=16)
    for question in cell.questions:
        word = question.answer.split()[0]
        above = cell.document[: question.source[0]].split("\n")
        heads = [line for line in above if line.lstrip("# ").startswith(word + " ")]
        assert question.answer in heads[-1]
        assert cell.document[slice(*question.source)] in question.prompt
