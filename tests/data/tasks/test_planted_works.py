"""Cells of several works: every answer is told by the page before what is asked about, and by nothing else."""

import re
from collections import Counter

import pytest

from octavo.config.errors import LimitError
from octavo.data.tasks.cell import FREE, Cell, build_cell
from octavo.data.tasks.found import spoken_lines
from tests.support.small_text import SmallText, small_prose, small_text

PROSE = [small_prose(220, seed=seed) for seed in range(21, 26)]
CAST = ("MALVINA", "OSKAR", "TIBALD", "URSULA", "WENZEL", "XAVER", "YSOLDE", "ZENO", "QUENTIN", "RUFUS", "First Lord")


def play(number: int) -> str:
    """A play with two characters of its own and one of every play."""
    own = (CAST[2 * number], CAST[2 * number + 1], CAST[-1])
    lines = PROSE[number].replace("\n\n", " ").split(". ")
    speeches = "\n\n".join(f"{own[i % 3]}:\n{line}." for i, line in enumerate(lines))
    return f"# Play number {number}\n\n## ACT I\n\n{speeches}\n"


PLAYS = "\n".join(play(number) for number in range(5))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


def cell(world: SmallText, *, text: str = PLAYS, length: int = 8192, **options: object) -> Cell:
    return build_cell("work", length, 10**9, text=text, tokenizer=world.tokenizer, **options)  # type: ignore[arg-type]


def test_pages_stand_before_what_is_asked_about(world: SmallText) -> None:
    made = cell(world, count=24)
    assert "work" in FREE
    assert len(made.questions) >= 20
    titles = made.questions[0].choices
    assert len(titles) == len(set(titles)) == 4
    pages = sorted((made.document.index(title), title) for title in titles)
    assert [made.document.count(title) for title in titles] == [1] * 4
    for question in made.questions:
        assert question.choices == titles
        assert question.marks[1] == "of 4"
        owner = [title for at, title in pages if at < question.source[0]][-1]
        assert question.answer == owner
        page, source = question.evidence
        assert owner in made.document[slice(*page)]
        assert source == question.source
        told = made.document[slice(*source)]
        assert told in question.prompt
        if question.marks[0] == "passage":
            assert made.document.count(told) == 1
        else:
            assert told in CAST[:10]
    assert {question.marks[0] for question in made.questions} == {"passage", "character"}
    assert all(count >= 2 for count in Counter(question.answer for question in made.questions).values())
    assert len(spoken_lines(made.document)) > 50


def test_headings_and_own_titles_are_cut(world: SmallText) -> None:
    document = cell(world, count=8).document
    assert "Play number" not in document
    assert "ACT I" not in document


def test_works_may_be_given_apart(world: SmallText) -> None:
    made = cell(world, text="\n\n".join(PROSE), works=PROSE, count=12)
    assert {question.marks for question in made.questions} == {("passage", "of 4")}, "its prose has no names"
    assert made == cell(world, text="\n\n".join(PROSE), works=PROSE, count=12)
    for question in made.questions:
        answers = [number for number, prose in enumerate(PROSE) if made.document[slice(*question.source)] in prose]
        assert len(answers) == 1
    owners = {
        (question.answer, next(n for n, prose in enumerate(PROSE) if made.document[slice(*question.source)] in prose))
        for question in made.questions
    }
    assert len({title for title, _ in owners}) == len(owners), "a title stands for one work"


def test_names_inside_of_sentences_are_characters_of_prose(world: SmallText) -> None:
    names = ("Malvina", "Oskarson", "Tibald", "Ursulane", "Wenzel")
    pairs = zip(names, PROSE, strict=True)
    texts = [re.sub(r"(?<=[a-z]) (?:near|under) ", f" and {name} ", prose) for name, prose in pairs]
    made = cell(world, text="".join(texts), works=texts, count=12)
    asked = {made.document[slice(*question.source)] for question in made.questions if question.marks[0] == "character"}
    assert len(asked) == 4
    assert asked < set(names)


def test_short_works_are_taken_whole_and_more_of_them(world: SmallText) -> None:
    made = cell(world, length=40_000, count=16)
    assert len(made.questions[0].choices) == 5
    with pytest.raises(LimitError, match="came out at"):
        cell(world, length=200_000, count=16)


def test_one_work_is_no_cell(world: SmallText) -> None:
    with pytest.raises(LimitError, match="the text has 1 works; a cell of works needs 3"):
        cell(world, text=PROSE[0], count=8)
