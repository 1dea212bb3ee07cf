"""Quoted words."""

from random import Random

from octavo.data.tasks import quotation, wordings


def test_quote_leaves_two_to_sixteen_words() -> None:
    for words in range(1, 60):
        for verse in (False, True):
            for seed in range(10):
                size = quotation.quoted_words(Random(seed), words, verse=verse)
                if size is not None:
                    assert (4 if verse else 6) <= size <= 14
                    assert 2 <= words - size <= 16


def test_sentences_too_short_or_too_long_are_not_quoted() -> None:
    assert quotation.quoted_words(Random(0), 7) is None
    assert quotation.quoted_words(Random(0), 5, verse=True) is None
    assert quotation.quoted_words(Random(0), 31) is None
    assert quotation.quoted_words(Random(0), 8) == 6


def test_questions_hold_the_words_in_the_wanted_half() -> None:
    tables = (wordings.QUOTE_QUESTIONS, wordings.NEXT_LINE_QUESTIONS, wordings.CHAPTER_QUESTIONS)
    makers = (quotation.rest_question, quotation.next_line_question, quotation.chapter_question)
    for table, make in zip(tables, makers, strict=True):
        tested = {make("{q}", Random(seed), held_out=True) for seed in range(40)}
        assert tested <= set(table.test)
        assert len(tested) > 1
        trained = {make("{q}", Random(seed)) for seed in range(40)}
        assert not any(wording in made for made in trained for wording in table.test)
        assert all(made.count("{q}") == 1 for made in trained)
        assert len(trained) > 20
