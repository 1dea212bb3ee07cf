"""Rows of several works: pages stand where works begin, and what is asked is told by no other work."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from octavo.data.ground import prose
from octavo.data.plan import Mix, Plan, Planner
from octavo.data.rows import make_row
from octavo.data.works import characters, passages, several
from tests.support.small_text import SmallText, small_text

LENGTH = 3000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=120)


def plan(world: SmallText, seed: int, *, plays: bool) -> Plan:
    draw = Random(seed)
    ground = several(draw, world.source, world.encode, LENGTH, plays=plays)
    return Planner(draw, ground, LENGTH, Mix(work=1.0, counting=0.2)).make()


def text(made: Plan, start: int, stop: int) -> str:
    return made.ground.source.vocabulary.text(made.ground.tokens[start:stop])


@pytest.mark.parametrize("plays", [False, True])
def test_works_fill_the_row_one_behind_another(world: SmallText, plays: bool) -> None:
    for seed in range(8):
        ground = several(Random(seed), world.source, world.encode, LENGTH, plays=plays)
        assert (len(ground.tokens), ground.is_play, ground.works[0]) == (LENGTH, plays, 0)
        assert 3 <= len(ground.works) <= 8
        sizes = [b - a for a, b in pairwise((*ground.works, LENGTH))]
        assert max(sizes) <= 3.1 * min(sizes)
        for at in ground.works[1:]:
            assert ground.source.vocabulary.text(ground.tokens[at - 1 : at]).endswith("\n")
        for line in ground.lines:
            assert ground.source.vocabulary.text(ground.tokens[line.start : line.stop]).strip() == line.text
            assert any(at <= line.name_start for at in ground.works)
        speeches = [line.speech for line in ground.lines]
        assert speeches == sorted(speeches)


@pytest.mark.parametrize("plays", [False, True])
def test_the_answer_is_the_title_of_the_work_that_is_asked_about(world: SmallText, plays: bool) -> None:
    sorts = set()
    for seed in range(6):
        made = plan(world, seed, plays=plays)
        starts = made.ground.works
        pages = {insert.at: insert for insert in reversed(made.inserts) if insert.at in starts}
        for ask in made.asks:
            if ask.kind != "work":
                continue
            assert ask.insert is not None
            assert ask.source is not None
            page = made.inserts[ask.insert]
            owner = max(at for at in starts if at <= ask.source[0])
            assert page is pages[owner]
            assert ask.source[1] <= (*[at for at in starts if at > owner], LENGTH)[0]
            assert ask.at >= ask.need >= ask.source[1]
            assert page.pieces[ask.answer].strip().lower() not in ask.question.lower()
            told = text(made, *ask.source).strip()
            if told.rstrip(".") in ask.question and told.count(" ") >= 2:
                sorts.add("passage")
            else:
                sorts.add("character")
                others = [text(made, a, b) for a, b in pairwise((*starts, LENGTH)) if a != owner]
                assert told in ask.question
                assert not any(told.lower() in other.lower() for other in others)
                said = ["".join(insert.pieces).lower() for insert in made.inserts]
                assert not any(told.lower() in one for one in said)
    assert sorts == ({"passage", "character"} if plays else {"passage"} | sorts)


def test_pages_come_before_everything_else_of_their_work(world: SmallText) -> None:
    made = plan(world, 3, plays=False)
    for at in made.ground.works:
        first = next(insert for insert in made.inserts if insert.at == at)
        assert all(first.kept)
        assert first.pieces[-1].endswith("\n\n")


def test_capitals_inside_of_sentences_are_characters_of_prose(world: SmallText) -> None:
    """Names are put into the text, since the small one has few."""
    draw = Random(1)
    said = " and so {n} said it, and then {n} went, but {n} slept.\n\n"
    tokens = world.encode([said.format(n="Malvina"), said.format(n="Oskarson")])
    ground = several(draw, world.source, world.encode, 1000, plays=False)
    at = ground.works[1]
    mixed = np.concatenate([np.array(tokens[0]), ground.tokens[:at], np.array(tokens[1]), ground.tokens[at:]])
    shifted = (0, at + len(tokens[0]))
    named = type(ground)(mixed.astype(np.uint16), ground.source, works=shifted)
    sheet = Planner(draw, named, len(mixed), Mix(work=1.0, fact=0, definition=0, key_value=0, chapter=0))
    begun = passages(sheet, 0)
    characters(sheet, type(begun)(pages=begun.pages, left=99))
    asked = {text(sheet.plan, *ask.source).strip(): ask.insert for ask in sheet.plan.asks if ask.source is not None}
    assert (asked["Malvina"], asked["Oskarson"]) == (begun.pages[0][0], begun.pages[1][0])


def test_other_ground_is_left_alone(world: SmallText) -> None:
    sheet = Planner(Random(1), prose(Random(1), world.source, 1000), 1000, Mix())
    begun = passages(sheet, 5)
    characters(sheet, begun)
    assert (begun.pages, begun.left, sheet.plan.inserts, sheet.plan.asks) == ((), 0, [], [])


def test_rows_of_works_answer_with_tokens_of_the_page(world: SmallText) -> None:
    asked, titles = 0, {seed: set[str]() for seed in range(8)}
    for seed in range(8):
        row = make_row(np.random.default_rng(seed), world.source, world.encode, 2048, Mix(work=1.0))
        vocabulary = world.source.vocabulary
        whole = vocabulary.text(row.tokens)
        for kind, (begin, answer, first, last) in zip(row.kinds, row.span.tolist(), strict=True):
            if kind == "work":
                asked += 1
                assert last <= begin
                end = vocabulary.special["<｜end▁of▁sentence｜>"]
                stop = answer + int(np.flatnonzero(row.tokens[answer:] == end)[0])
                title = vocabulary.text(row.tokens[answer:stop]).strip()
                assert title in vocabulary.text(row.tokens[:first]), "the page stands before what is asked about"
                assert whole.count(title) >= 2
                assert (row.weight[answer : stop + 1] == 1).all()
                titles[seed].add(title)
    assert asked > 20
    assert sum(len(some) > 1 for some in titles.values()) >= 6, "a title that stands alone teaches nothing"


def test_without_a_share_no_row_is_of_works(world: SmallText) -> None:
    for seed in range(6):
        one, two = (
            make_row(np.random.default_rng(seed), world.source, world.encode, 1024, mix)
            for mix in (Mix(), Mix(work=0.0))
        )
        assert "work" not in one.kinds
        assert (one.tokens == two.tokens).all()
