"""Cells whose answers hang on several statements: the document gives the answers."""

from collections import Counter

import pytest

from octavo.data.tasks.cell import FREE, Cell, build_cell, kinds
from tests.support.small_text import SmallText, small_prose, small_text

TEXT = small_prose(700, seed=11)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


def cell(world: SmallText, kind: str, count: int = 16, length: int = 9000) -> Cell:
    return build_cell(kind, length, 10**9, text=TEXT, tokenizer=world.tokenizer, count=count)


def test_one_key_of_many_alike(world: SmallText) -> None:
    made = cell(world, "multi_key")
    assert len(made.questions) == 16
    assert all(q.answer in made.document[slice(*q.source)] for q in made.questions)
    assert made.document.count("\n\n") > 60  # 32 statements between paragraphs
    assert {q.marks[0] for q in made.questions} == {"seen", "unseen"}


def test_values_stand_in_the_order_in_which_they_are_expected(world: SmallText) -> None:
    made = cell(world, "multi_value")
    assert len(made.questions) == 16
    for question in made.questions:
        values = question.answer.split(", ")
        assert question.marks[1] == f"{len(values)} values"
        assert values[0] in made.document[slice(*question.source)]
        place = question.source[0]
        for value in values:
            place = made.document.index(value, place)


@pytest.mark.parametrize("kind", ["two_hop", "two_hop_steps"])
def test_two_hops_end_where_the_first_one_leads(world: SmallText, kind: str) -> None:
    made = cell(world, kind, 12)
    assert len(made.questions) == 12
    for question in made.questions:
        second = made.document[slice(*question.source)]
        assert question.answer.rsplit(", ", 1)[-1] in second
        if kind == "two_hop_steps":
            between = question.answer.split(", ", 1)[0]
            assert between.lower() in second.lower()
            assert made.document.lower().count(between.lower()) >= 2
            assert between not in question.prompt


def test_variables_are_set_before_they_are_handed_on(world: SmallText) -> None:
    made = cell(world, "tracking")
    assert len(made.questions) == 16
    for question in made.questions:
        names = question.answer.split(", ")
        assert question.marks[1] == f"{len(names)} names"
        assert names[0] in made.document[slice(*question.source)]
        places = [made.document.index(name) for name in names]
        assert places == sorted(places)


def test_counts_are_those_of_the_document(world: SmallText) -> None:
    made = cell(world, "counting", 12)
    assert len(made.questions) == 12
    paragraphs = made.document.split("\n\n")
    for question in made.questions:
        words = made.document[slice(*question.source)].lower().split()
        runs = [" ".join(words[i:j]).strip(".!,?():") for i in range(len(words)) for j in range(i + 2, len(words) + 1)]
        shared = [run for run in runs if run in question.prompt.lower()]
        assert int(question.answer) in {sum(run in p.lower() for p in paragraphs) for run in shared}


def test_order_is_that_of_the_document(world: SmallText) -> None:
    made = cell(world, "ordering")
    assert Counter(mark for q in made.questions for mark in q.marks) == {
        "named": 8, "passages": 8, "of 2": 8, "of 4": 8
    }  # fmt: skip
    for question in made.questions:
        assert question.answer.lower() in question.prompt.lower()
        if question.marks[0] == "passages":
            others = [part for part in question.prompt.split('"')[1::2] if part != question.answer]
            places = [made.document.index(other) for other in others]
            here = made.document.index(question.answer)
            assert here < min(places) or here > max(places)
            assert made.document[slice(*question.source)] == question.answer


def test_free_kinds_are_kinds_of_cells() -> None:
    assert set(kinds()) >= FREE


@pytest.mark.parametrize("kind", ["multi_value", "two_hop", "two_hop_steps", "tracking", "counting", "ordering"])
def test_evidence_is_all_that_an_answer_hangs_on(world: SmallText, kind: str) -> None:
    made = cell(world, kind, 12)
    for question in made.questions:
        assert list(question.evidence) == sorted(question.evidence)
        assert question.source in question.evidence
        said = [made.document[slice(*span)] for span in question.evidence]
        if kind in ("multi_value", "tracking"):
            parts = question.answer.split(", ")
            assert len(said) == len(parts)
            assert all(part in text for part, text in zip(parts, said, strict=True))
        elif kind == "counting":
            assert len(said) == int(question.answer)
        elif kind == "ordering":
            assert all(text in question.prompt for text in said) or "named" in question.marks
        else:
            assert len(said) == 2


def test_one_statement_is_its_own_evidence(world: SmallText) -> None:
    assert all(question.evidence == () for question in cell(world, "multi_key").questions)
