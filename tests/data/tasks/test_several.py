"""Several values of one key."""

from random import Random

from octavo.data.tasks.fact import FactBook
from octavo.data.tasks.linked_wordings import SEVERAL_QUESTIONS
from octavo.data.tasks.several import several, together


def word() -> str:
    return "harbour"


def test_values_differ_hold_no_comma_and_are_all_in_the_answer() -> None:
    draw = Random(1)
    book = FactBook(draw, word)
    for _ in range(60):
        made = several(draw, word, book)
        values = [said.answer.strip() for said in made.statements]
        assert 2 <= len(values) <= 4
        assert len({value.lower() for value in values}) == len(values)
        assert together(made.statements) == " " + ", ".join(values)
        assert together(made.statements).count(",") == len(values) - 1
        assert all(made.entity.text.lower() in said.text.lower() for said in made.statements)
        assert made.entity.text.lower() in made.question(draw).lower()


def test_the_book_says_nothing_of_the_same_key() -> None:
    draw = Random(2)
    book = FactBook(draw, word)
    first = several(draw, word, book)
    assert not book.is_free(first.entity, first.attribute)
    again = several(draw, word, book, entity=first.entity, attribute=first.attribute)
    assert again.attribute == first.attribute
    assert again.entity.text != first.entity.text


def test_tests_ask_in_their_own_wordings() -> None:
    draw = Random(3)
    book = FactBook(draw, word, held_out=True)
    made = [several(draw, word, book, held_out=True) for _ in range(30)]
    assert {one.unseen for one in made} == {True, False}
    kept = {wording.format(e="E", a="A")[0] for wording in SEVERAL_QUESTIONS.test}
    assert all(one.question(draw, held_out=True)[0] in kept for one in made)
