"""Definitions."""

from random import Random

from octavo.data.tasks.definition import Glossary, gloss


def word() -> str:
    return "harbour"


def test_words_differ_and_are_asked_for() -> None:
    draw = Random(1)
    glossary = Glossary(draw, word)
    made = [glossary.definition() for _ in range(120)]
    assert len({d.word for d in made}) == 120
    assert all(d.word in d.question(draw).lower() and d.word in d.statement.text.lower() for d in made)


def test_held_out_words_are_made_up() -> None:
    glossary = Glossary(Random(2), word, held_out=True)
    assert "harbour" not in {glossary.definition().word for _ in range(60)}


def test_glosses_are_two_to_nine_words_with_right_articles() -> None:
    for seed in range(300):
        text = gloss(Random(seed), word)
        assert 2 <= len(text.split()) <= 10
        assert not any(f" a {vowel}" in f" {text}" for vowel in "aeiou")
