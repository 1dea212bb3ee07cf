"""Sentences of token arrays."""

import numpy as np

from octavo.data.sentences import Scan
from octavo.data.vocabulary import Vocabulary

PIECES = [b"\n", b"The", b" cat", b" sat", b".", b" Then", b" Mr", b" Fox", b" came", b"?", b"He", b" ran"]
WORDS = Vocabulary(PIECES, {})


def scan(text: str) -> Scan:
    return Scan(np.array([PIECES.index(part.encode()) for part in text.split("|")], dtype=np.uint16), WORDS)


def test_sentences_end_at_marks_and_lines() -> None:
    found = scan("The| cat| sat|.| Then| Mr|.| Fox| came|?|\n|He| ran|.|\n|The| cat")
    assert list(zip(found.starts.tolist(), found.stops.tolist(), strict=True)) == [(0, 4), (4, 10), (11, 14)]
    assert found.closed.tolist() == [True, True, True]


def test_the_sentence_that_is_cut_off_is_none() -> None:
    assert scan("The| cat| sat").starts.tolist() == []


def test_words_are_counted_and_cut() -> None:
    found = scan("The| cat| sat|.| Then| Mr|.| Fox| came|?|\n")
    assert found.word_count(0, 4) == 3
    assert found.word_count(4, 10) == 4
    assert [found.after_words(4, n) for n in (1, 2, 3)] == [5, 7, 8]


def test_places_are_borders() -> None:
    found = scan("The| cat| sat|.| Then| Fox| came|?|\n|He| ran|.|\n")
    assert found.places(paragraphs=True).tolist() == [9]
    assert found.places(paragraphs=False).tolist() == [4]
