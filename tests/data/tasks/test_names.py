"""Entities and their near twins."""

from random import Random

import pytest

from octavo.data.tasks import names


@pytest.mark.parametrize("sort", list(names.SORTS))
def test_entities_are_drawn_widely_and_repeatably(sort: str) -> None:
    made = [names.entity(Random(seed), sort).text for seed in range(120)]
    assert len(set(made)) > 90
    assert made == [names.entity(Random(seed), sort).text for seed in range(120)]
    assert all(text == text.strip() and "=" not in text for text in made)


def test_twins_differ_in_one_word() -> None:
    for seed in range(300):
        draw = Random(seed)
        first = names.entity(draw)
        second = names.twin(first, draw)
        assert len(first.words) == len(second.words)
        assert sum(a != b for a, b in zip(first.words, second.words, strict=True)) == 1


def test_twin_words_share_letters_mostly() -> None:
    draw = Random(1)
    pairs = [(word := names.coined(draw), names.twin_word(word, draw)) for _ in range(200)]
    assert all(a != b for a, b in pairs)
    assert sum(a[:2] == b[:2] or a[2:] == b[2:].lower() or a[2:] == b[-len(a) + 2 :] for a, b in pairs) > 120
