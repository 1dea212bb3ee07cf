"""Sentences, lines and words of a token array, found with tables over the vocabulary.

Covers: where sentences and paragraphs begin and end, counting and cutting at words. Does not cover: text, choice.
"""

from __future__ import annotations

import numpy as np

from octavo.data.vocabulary import Vocabulary


class Scan:
    """Marks over tokens uint16 [T].

    paragraph [T]: a line begins here (the token before ends a line). inner [T]: a sentence begins here inside a line.
    starts [n], stops [n]: sentences as half-open ranges of tokens, line ends not included, in order. words [T + 1]:
    number of words that begin before a token.
    """

    def __init__(self, tokens: np.ndarray, vocabulary: Vocabulary) -> None:
        count = len(tokens)
        newline = vocabulary.newline[tokens]
        before = np.concatenate([[True], newline[:-1]])
        ends = np.concatenate([[False], vocabulary.ends[tokens[:-1]]])
        short = np.concatenate([[False, False], vocabulary.abbreviation[tokens[:-2]]])[:count]
        self.tokens = tokens
        self.newline = newline
        self.paragraph = before & ~newline
        self.inner = ends & ~short & vocabulary.opens[tokens] & ~before
        begins = vocabulary.word[tokens] | (self.paragraph & vocabulary.letter[tokens])
        self.word_begins = begins
        self.words = np.concatenate([[0], np.cumsum(begins)])
        starts = np.flatnonzero(self.paragraph | self.inner)
        stops = np.flatnonzero(self.inner | newline)
        stops = np.append(stops, count)
        self.starts = starts
        self.stops = stops[np.searchsorted(stops, starts, side="right")]
        # The run's last sentence may be cut off, so it is no sentence.
        whole = self.stops < count
        self.starts, self.stops = self.starts[whole], self.stops[whole]
        self.closed = vocabulary.ends[tokens[self.stops - 1]] if len(self.stops) else np.zeros(0, dtype=bool)

    def word_count(self, start: int, stop: int) -> int:
        """Words that begin in start .. stop."""
        return int(self.words[stop] - self.words[start])

    def after_words(self, start: int, count: int) -> int:
        """Index of the token that begins word number `count` (0 is the first) at or after `start`."""
        return int(np.searchsorted(self.words, self.words[start] + count + 1, side="left")) - 1

    def places(self, *, paragraphs: bool) -> np.ndarray:
        """Indices where something may be put in: begins of paragraphs (not the first token), or of inner sentences."""
        found = np.flatnonzero(self.paragraph if paragraphs else self.inner)
        return found[found > 0]
