"""Places of a row."""

from random import Random

import numpy as np
import pytest

from octavo.data.ground import prose
from octavo.data.shares import Mix
from octavo.data.sheet import Ask, Sheet
from octavo.data.tasks.fact import Statement
from tests.support.small_text import SmallText, small_text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=80)


def sheet(world: SmallText, seed: int = 1) -> Sheet:
    draw = Random(seed)
    return Sheet(draw, prose(draw, world.source, 1200), 1000, Mix())


def test_windows_lie_inside_of_the_row_and_vary(world: SmallText) -> None:
    made = sheet(world)
    windows = [made.window() for _ in range(200)]
    assert all(0 <= low < high <= 1.0000001 for low, high in windows)
    sizes = [high - low for low, high in windows]
    assert min(sizes) < 0.15
    assert max(sizes) > 0.85


def test_statements_that_belong_together_stand_in_one_window(world: SmallText) -> None:
    made = sheet(world)
    placed = made.spread([Statement(f"Sentence number {i}.", "", "") for i in range(6)])
    assert None not in placed
    pieces = ["".join(made.plan.inserts[i].pieces).strip() for i in placed if i is not None]
    assert pieces == [f"Sentence number {i}." for i in range(6)]
    assert all(insert.at <= made.plan.used for insert in made.plan.inserts)


def test_lines_stand_on_their_own(world: SmallText) -> None:
    made = sheet(world)
    index = made.line("VAR a = 5", 0.3)
    assert index is not None
    insert = made.plan.inserts[index]
    assert (insert.pieces, insert.kept, insert.newline) == (["VAR a = 5"], [False], True)
    assert insert.at in made.outer


def test_a_question_on_several_statements_comes_after_all_and_needs_them(world: SmallText) -> None:
    made = sheet(world)
    first, second = made.line("a = 5", 0.8), made.line("b = a", 0.2)
    assert first is not None
    assert second is not None
    made.joined("tracking", "Which?", " a, b", [first, second], second)
    (ask,) = made.plan.asks
    assert ask.at == made.plan.inserts[first].at
    assert (ask.answer_text, ask.source_pieces) == (" a, b", (0, 1))
    assert ask.missing({first})
    assert ask.missing({second})
    assert not ask.missing({7})


def test_a_question_on_the_ground_misses_nothing() -> None:
    assert not Ask("quotation", 3, "?", answer_range=(1, 2)).missing({0, 1})


def test_nothing_is_put_where_something_is_quoted(world: SmallText) -> None:
    made = sheet(world)
    made.take(0, 1200)
    assert made.free(np.array([5, 900]), 0) is None
    assert made.state(Statement("A", " b", "."), 0.5) is None
    assert made.line("a = 5", 0.5) is None
