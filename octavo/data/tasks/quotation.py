"""Questions about quoted words: how they go on, which line follows, which chapter they stand in.

Covers: the questions and the choice of what to quote from a scanned text. Does not cover: finding sentences
(octavo.data.sentences), tokens.
"""

from __future__ import annotations

from random import Random

from octavo.data.tasks.frames import dressed
from octavo.data.tasks.wordings import CHAPTER_QUESTIONS, NEXT_LINE_QUESTIONS, QUOTE_QUESTIONS, Wordings

MIN_WORDS = 6
MAX_WORDS = 14
MAX_ANSWER_WORDS = 16
MIN_VERSE_WORDS = 4


def quoted_words(draw: Random, words: int, *, verse: bool = False) -> int | None:
    """How many of a sentence's `words` to quote, leaving 2 to 16 as answer; None if the sentence does not suit."""
    low = max(MIN_VERSE_WORDS if verse else MIN_WORDS, words - MAX_ANSWER_WORDS)
    high = min(MAX_WORDS, words - 2)
    return draw.randint(low, high) if low <= high else None


def _ask(table: Wordings, quote: str, draw: Random, held_out: bool) -> str:
    text = table.pick(draw, held_out=held_out).format(q=quote)
    return text if held_out else dressed(text[:1].upper() + text[1:], draw)


def rest_question(quote: str, draw: Random, *, held_out: bool = False) -> str:
    """How do these words go on?"""
    return _ask(QUOTE_QUESTIONS, quote, draw, held_out)


def next_line_question(line: str, draw: Random, *, held_out: bool = False) -> str:
    """Which line follows this one?"""
    return _ask(NEXT_LINE_QUESTIONS, line, draw, held_out)


def chapter_question(quote: str, draw: Random, *, held_out: bool = False) -> str:
    """In which chapter do these words stand?"""
    return _ask(CHAPTER_QUESTIONS, quote, draw, held_out)
