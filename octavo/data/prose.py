"""Real text to plant things in: runs of packed tokens that begin at a sentence, and single real words.

Covers: drawing runs over several documents, words, restriction to sources, program text and short documents apart
from prose. Does not cover: packing, sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from octavo.config.errors import ConfigError, UsageError
from octavo.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from octavo.data.ground import Encode
    from octavo.data.lessons.shelf import Shelf
    from octavo.data.pack import PackedText

_LEAD = 240  # tokens searched for the begin of a paragraph or sentence
_MIN_RUN = 160
CODE_SOURCES = ("javascript",)
"""Sources of program text: rows of prose never draw them."""
SHORT_SOURCES = ("facts", "definitions", "elements", "gsm8k", "taskmaster", "chatterbot")
"""Sources of short documents that are read as they are: only rows without questions draw them."""


class TextSource:
    """Documents as ranges of one token array.

    tokens: uint16 [T]. starts, ends: int64 [n], documents. names: the source's name of each document. folder: of the
    pack, where what belongs to it may lie; None for tokens from elsewhere.
    """

    def __init__(
        self, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray, names: Sequence[str], vocabulary: Vocabulary,
        folder: Path | None = None,
    ) -> None:
        prose = ~np.isin(np.array(names), (*CODE_SOURCES, *SHORT_SOURCES))
        if not len(starts) or int((ends - starts)[prose].max(initial=0)) < _MIN_RUN:
            raise UsageError(f"text source needs a document of at least {_MIN_RUN} tokens")
        self.vocabulary, self.folder = vocabulary, folder
        self._tokens = tokens
        self._ranges: dict[str | None, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        labels = np.array(names)
        aside = ~prose
        self._aside = np.sort(starts[aside]), ends[aside][np.argsort(starts[aside])]
        for name in (None, *dict.fromkeys(names)):
            chosen = np.flatnonzero((labels == name) if name is not None else ~aside)
            least = 1 if name in SHORT_SOURCES else _MIN_RUN
            chosen = chosen[(ends - starts)[chosen] >= least]
            if len(chosen):
                self._ranges[name] = starts[chosen], ends[chosen], np.cumsum(ends[chosen] - starts[chosen])
        self._sources = [name for name in self._ranges if name is not None]
        self._sizes = [int(self._ranges[name][2][-1]) for name in self._sources]
        self._break = np.array(self._newlines(), dtype=np.uint16)
        every = [self._ranges[name] for name in self._sources]
        self._starts, self._ends = (np.concatenate([one[i] for one in every]) for i in (0, 1))
        self._owner = np.repeat(self._sources, [len(one[0]) for one in every])
        self._split: dict[tuple[int, tuple[str, ...]], tuple[np.ndarray, np.ndarray, float]] = {}
        self._shelf: Shelf | None = None

    @classmethod
    def open(cls, pack: PackedText, tokenizer_file: Path | str) -> TextSource:
        """Over a pack and the tokenizer that made it. Raises ConfigError if they do not belong together."""
        vocabulary = Vocabulary.load(tokenizer_file)
        if vocabulary.size != pack.vocab_size:
            raise ConfigError(
                f"pack has {pack.vocab_size} ids, tokenizer {str(tokenizer_file)!r} has {vocabulary.size}"
            )
        starts = np.array([d.start for d in pack.documents], dtype=np.int64)
        ends = np.array([d.end for d in pack.documents], dtype=np.int64)
        return cls(pack.tokens, starts, ends, [d.source for d in pack.documents], vocabulary, pack.folder)

    def _newlines(self) -> list[int]:
        """Ids of a blank line: one token if the vocabulary has it."""
        pieces = self.vocabulary.pieces
        return [pieces.index(b"\n\n")] if b"\n\n" in pieces else [pieces.index(b"\n")] * 2

    def _begin(self, place: int, end: int) -> int:
        """First begin of a paragraph or sentence soon after `place`, or `place`."""
        lead = np.asarray(self._tokens[place : min(end, place + _LEAD)])
        table = self.vocabulary
        after_line = table.newline[lead[:-1]] & ~table.newline[lead[1:]] & ~table.spaced[lead[1:]]
        found = np.flatnonzero(after_line)
        if not len(found):
            found = np.flatnonzero(table.ends[lead[:-1]] & table.opens[lead[1:]])
        return place + int(found[0]) + 1 if len(found) else place

    def documents(self, name: str) -> Iterator[np.ndarray]:
        """uint16 [length] of each document of one source, in order; of none where the pack has no such source."""
        if name in self._ranges:
            for start, end in zip(*self._ranges[name][:2], strict=True):
                yield np.asarray(self._tokens[start:end])

    def shelf(self, encode: Encode) -> Shelf:
        """All lessons of the pack, put together when first asked for. Raises ConfigError that names what it lacks."""
        if self._shelf is None:
            from octavo.data.lessons.shelf import Shelf  # stands on this module

            if self.folder is None:
                raise ConfigError("lessons need the folder of a pack; these tokens have none")
            self._shelf = Shelf(self, self.folder, encode)
        return self._shelf

    def any_source(self, draw: Random) -> str:
        """A source's name, each as likely as its share of the tokens."""
        return draw.choices(self._sources, self._sizes)[0]

    def share_beyond(self, most: int, sources: tuple[str, ...] = ()) -> float:
        """Share of the tokens that are in documents of more than `most` tokens, of `sources` or, without, of all."""
        return self._at(most, sources)[2]

    def document(self, draw: Random, most: int, sources: tuple[str, ...] = ()) -> np.ndarray:
        """uint16: a whole document of at most `most` tokens, of `sources` or, without, of any, each as likely. Raises
        ConfigError if the pack has none."""
        short = self._at(most, sources)[0]
        if not len(short):
            raise ConfigError(f"the pack has no document of at most {most} tokens")
        at = int(short[draw.randrange(len(short))])
        return np.asarray(self._tokens[self._starts[at] : self._ends[at]])

    def run_within(self, draw: Random, length: int, sources: tuple[str, ...] = ()) -> np.ndarray:
        """uint16 [length]: text of one document that is at least so long, from a place drawn evenly. Raises ConfigError
        if the pack has none (of `sources`)."""
        long = self._at(length - 1, sources)[1]
        if not len(long):
            raise ConfigError(f"the pack has no document of at least {length} tokens")
        sums = np.cumsum(self._ends[long] - self._starts[long])
        at = int(long[np.searchsorted(sums, draw.randrange(int(sums[-1])), side="right")])
        start, end = int(self._starts[at]), int(self._ends[at])
        place = start + draw.randrange(end - start - length + 1)
        place = self._begin(place, end) if place > start else place
        place = min(place, end - length)
        return np.asarray(self._tokens[place : place + length])

    def _at(self, most: int, sources: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, float]:
        """Documents of at most `most` tokens, the others, and the others' share of the tokens."""
        key = most, sources
        if key not in self._split:
            for name in sources:
                if name not in self._ranges:
                    raise ConfigError(f"the pack has no source {name!r}; it has {', '.join(self._sources)}")
            sizes = self._ends - self._starts
            chosen = np.isin(self._owner, sources) if sources else np.full(len(sizes), True)
            beyond = sizes > most
            share = float(sizes[beyond & chosen].sum() / sizes[chosen].sum())
            self._split[key] = np.flatnonzero(~beyond & chosen), np.flatnonzero(beyond & chosen), share
        return self._split[key]

    def run_of_code(self, draw: Random, length: int) -> np.ndarray:
        """uint16 [length]: as `run`, of program text. Raises ConfigError if the pack has none."""
        names = [name for name in CODE_SOURCES if name in self._ranges]
        if not names:
            raise ConfigError(f"the pack has no source of program text ({', '.join(CODE_SOURCES)}) for rows of code")
        return self.run(draw, length, source=draw.choice(names))

    def run(self, draw: Random, length: int, *, source: str | None = None) -> np.ndarray:
        """uint16 [length]: text from a place drawn evenly, going on to other documents where one ends.

        Without a source (or with one that is not there) from all that are prose."""
        starts, ends, sums = self._ranges.get(source) or self._ranges[None]
        parts: list[np.ndarray] = []
        missing = length
        while missing > 0:
            index = int(np.searchsorted(sums, draw.randrange(int(sums[-1])), side="right"))
            start, end = int(starts[index]), int(ends[index])
            room = end - start - min(missing, end - start)
            place = start + (draw.randrange(room + 1) if room else 0)
            if place > start:
                place = self._begin(place, end)
            part = np.asarray(self._tokens[place : min(end, place + missing)])
            parts.append(part)
            missing -= len(part)
            if missing > 0:
                parts.append(self._break[:missing])
                missing -= len(parts[-1])
        return np.concatenate(parts)

    def _is_aside(self, place: int) -> bool:
        """Whether a token is of program text or of a short source."""
        starts, ends = self._aside
        index = int(np.searchsorted(starts, place, side="right")) - 1
        return index >= 0 and place < ends[index]

    def word(self, draw: Random) -> str:
        """A real word of prose in small letters, from a place drawn evenly; common words come often, as in the text."""
        table = self.vocabulary
        while True:
            place = draw.randrange(max(1, len(self._tokens) - 40))
            if self._is_aside(place):
                continue
            lead = np.asarray(self._tokens[place : place + 40])
            for begin in np.flatnonzero(table.lower[lead[:-8]]).tolist():
                stop = begin + 1
                while table.lower_more[lead[stop]] and stop < len(lead) - 1:
                    stop += 1
                word = table.text(lead[begin:stop]).strip()
                if len(word) > 4 and word.isascii() and draw.random() < 0.5:
                    return word
