"""Borders of sentences, on the shapes that real texts have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.sentences import sentence_around


def around(text: str, inner: str, reach: int = 400) -> str:
    start = text.index(inner)
    first, last = sentence_around(text, start, start + len(inner), reach=reach)
    return text[first:last]


@pytest.mark.parametrize(
    ("text", "inner", "found"),
    [
        ("He sat. The word is heron. She left.", "heron", "The word is heron."),
        ("He sat. The word\nis heron. She left.", "heron", "The word\nis heron."),
        ("He sat! The word is heron? She left.", "word", "The word is heron?"),
        ('He said. "The word is heron." She left.', "heron", '"The word is heron."'),
        ("TITLE\n\nThe word is heron\n\nNext", "heron", "The word is heron"),
        ("TITLE\r\n\r\nThe word is heron\r\n\r\nNext", "heron", "The word is heron"),
        ("Here is Mr. Crane, who knows. Bye.", "Crane", "Here is Mr. Crane, who knows."),
        ("So said J. Crane to all. Bye.", "Crane", "So said J. Crane to all."),
        ("It cost 3.5 crowns there. Bye.", "crowns", "It cost 3.5 crowns there."),
        ("He waited... and left. Bye.", "left", "He waited... and left."),
        ("the only sentence", "only", "the only sentence"),
        ("A b. C d. E f.", "b. C", "A b. C d."),
        ("Wait… What is it? No.", "What", "What is it?"),
    ],
)
def test_whole_sentence_is_found(text: str, inner: str, found: str) -> None:
    assert around(text, inner) == found


def test_span_of_white_space_at_the_border_takes_no_neighbour() -> None:
    text = "A b. C d. E f."
    assert sentence_around(text, 4, 9, reach=20) == (5, 9)


@pytest.mark.parametrize(
    ("text", "start", "end", "found"),
    [
        ("A b.\n\nC d. E f.", 4, 6, "C d."),
        ("A b. C d.\n\n", 9, 11, "C d."),
        ("\n\nA b.", 0, 1, "A b."),
        ("one   two.", 3, 6, "one   two."),
        (" \n\t", 1, 2, "\n"),
        ("A" + " " * 90 + "B", 40, 42, "  "),
    ],
)
def test_white_space_alone_stands_for_the_sentence_beside_it(text: str, start: int, end: int, found: str) -> None:
    first, last = sentence_around(text, start, end, reach=20)
    assert text[first:last] == found


def test_without_a_sentence_in_reach_the_line_counts_then_the_word() -> None:
    verse = "\n".join(f"line number {n} goes on without an end" for n in range(50))
    assert around(verse, "number 20", reach=60).startswith("line number ")
    assert around(verse, "number 20", reach=60).endswith("without an end")
    words = " ".join(f"word{n}" for n in range(200))
    found = around(words, "word100", reach=20)
    assert all(word in words.split() for word in found.split())
    assert len(found) <= len("word100") + 40


@given(st.text("aB .\n", min_size=1, max_size=80), st.integers(0, 79), st.integers(1, 10), st.integers(0, 30))
def test_span_keeps_what_it_was_given_and_stays_in_reach(text: str, start: int, size: int, reach: int) -> None:
    start = min(start, len(text) - 1)
    end = min(start + size, len(text))
    first, last = sentence_around(text, start, end, reach=reach)
    assert max(0, start - reach) <= first < last <= min(len(text), end + reach)
    inner = text[start:end]
    if inner.strip():
        assert first <= start + len(inner) - len(inner.lstrip())
        assert last >= end - (len(inner) - len(inner.rstrip()))
