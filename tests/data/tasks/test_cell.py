"""Test cells: lengths, repeatability, refusals."""

from random import Random

import pytest

from octavo.config.errors import LimitError, UsageError
from octavo.data.tasks.cell import Maker, Planting, build_cell, kinds
from tests.support.small_text import SmallText, small_prose, small_text

TEXT = small_prose(500, seed=12)
WORKS = tuple(small_prose(120, seed=seed) for seed in (13, 14, 15))  # for the kind that asks for them


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


@pytest.mark.parametrize("kind", list(kinds()))
def test_length_is_met_and_the_cell_repeats(world: SmallText, kind: str) -> None:
    cell = build_cell(kind, 5000, 10**9 + 3, text=TEXT, tokenizer=world.tokenizer, count=16, works=WORKS)
    assert abs(cell.tokens - 5000) <= 100
    assert cell.tokens == 1 + len(world.tokenizer.encode(cell.document))
    assert 12 <= len(cell.questions) <= 16
    assert [q.depth for q in cell.questions] == sorted(q.depth for q in cell.questions)
    assert all(q.prompt and q.answer for q in cell.questions)
    assert cell == build_cell(kind, 5000, 10**9 + 3, text=TEXT, tokenizer=world.tokenizer, count=16, works=WORKS)
    other = build_cell(kind, 5000, 10**9 + 4, text=TEXT, tokenizer=world.tokenizer, count=16, works=WORKS)
    assert other.document != cell.document


def test_bad_arguments_are_named(world: SmallText) -> None:
    with pytest.raises(UsageError, match="unknown kind of cell 'poem'"):
        build_cell("poem", 5000, 10**9, text=TEXT, tokenizer=world.tokenizer)
    with pytest.raises(UsageError, match="seed 7 belongs to training"):
        build_cell("fact", 5000, 7, text=TEXT, tokenizer=world.tokenizer)
    with pytest.raises(UsageError, match="count is 0"):
        build_cell("fact", 5000, 10**9, text=TEXT, tokenizer=world.tokenizer, count=0)
    with pytest.raises(LimitError, match="ask fewer"):
        build_cell("fact", 500, 10**9, text=TEXT, tokenizer=world.tokenizer, count=64)
    with pytest.raises(LimitError, match="filler has only"):
        build_cell("quotation", 900_000, 10**9, text=TEXT, tokenizer=world.tokenizer)


def test_planting_gives_the_characters_of_what_was_planted(world: SmallText) -> None:
    maker = Maker(Random(1), TEXT, world.tokenizer, 1000, 3)
    plantings = [Planting(text=f"Number {i} is {i}{i}.", asks=((f"{i}?", f"{i}{i}", (0, 8), ()),)) for i in range(5)]
    document, questions = maker.plant(plantings)
    assert [document[slice(*q.source)] for q in questions] == [f"Number {i}" for i in range(5)]
    assert all(document[q.source[0] :].startswith(p.text + "\n\n") for q, p in zip(questions, plantings, strict=True))
