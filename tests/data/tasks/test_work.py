"""Title pages and questions for a work."""

from random import Random

import pytest

from octavo.data.tasks.wordings import Wordings, near
from octavo.data.tasks.work import (
    CHARACTER_QUESTIONS,
    PASSAGE_QUESTIONS,
    character_question,
    passage_question,
    title_pages,
)


@pytest.mark.parametrize(("table", "field"), [(PASSAGE_QUESTIONS, "{q}"), (CHARACTER_QUESTIONS, "{e}")])
def test_wordings_of_training_and_of_tests_are_apart(table: Wordings, field: str) -> None:
    assert len(set(table.train)) >= 12
    assert len(table.test) >= 6
    assert not any(near(wording, table.test) for wording in table.train)
    drawn = [table.pick(Random(seed)) for seed in range(300)]
    assert not any(near(wording, table.test) for wording in drawn)
    assert all(wording.count(field) == 1 for wording in (*drawn, *table.test))
    assert len(set(drawn)) > 150


def test_questions_hold_what_is_asked() -> None:
    for seed in range(20):
        for held_out in (False, True):
            assert "a few words" in passage_question("a few words", Random(seed), held_out=held_out)
            assert "MALVOLIO" in character_question("MALVOLIO", Random(seed), held_out=held_out)
    assert passage_question("it", Random(1), held_out=True)[0].isupper()


def test_titles_of_a_row_are_told_apart() -> None:
    for seed in range(30):
        for held_out in (False, True):
            pages = title_pages(Random(seed), 12, held_out=held_out)
            titles = [page.answer.lower() for page in pages]
            assert len(pages) == 12
            assert not any(a in b for a in titles for b in titles if a is not b)
            assert all(page.text == page.before + page.answer + page.after for page in pages)
            assert len({page.before for page in pages}) == 1


def test_titles_of_tests_are_of_other_forms() -> None:
    def shape(title: str) -> str:
        return title.lower().split(" ")[0]

    train = {page.answer.lower() for seed in range(200) for page in title_pages(Random(seed), 8)}
    test = {page.answer.lower() for seed in range(200) for page in title_pages(Random(seed), 8, held_out=True)}
    assert not train & test
    for form in ("who feared the", "seven days in", "farewell to the", " without the ", "beyond "):
        assert any(form in title for title in test)
        assert not any(form in title for title in train), form
