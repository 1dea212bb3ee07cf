"""The text that a row's tasks stand on: a run of real prose, a made-up play spoken in real sentences, program text.

Covers: the tokens, what may be quoted, where things may be put in. Does not cover: which tasks, the finished row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from octavo.data.prose import TextSource
from octavo.data.sentences import Scan
from octavo.data.tasks import speaker

Encode = Callable[[list[str]], list[list[int]]]
_PLAY_SOURCE = "books"
_LEAST_LINE_WORDS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """A spoken line: its tokens start .. stop, those of its speaker's name, the speech it is in, its text."""

    start: int
    stop: int
    name_start: int
    name_stop: int
    speech: int
    text: str


class Ground:
    """tokens: uint16 [T]. lines: spoken lines, empty for prose. is_code: program text, which has no sentences. works:
    first tokens of the works that it is made of, where it is to be taken for several."""

    def __init__(
        self, tokens: np.ndarray, source: TextSource, lines: tuple[Line, ...] = (), *, is_code: bool = False,
        works: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.tokens = tokens
        self.source = source
        self.lines = lines
        self.is_code = is_code
        self.works = works
        self.scan = Scan(tokens, source.vocabulary)

    @property
    def is_play(self) -> bool:
        """Made of speeches."""
        return bool(self.lines)

    def text(self, start: int, stop: int) -> str | None:
        """Text of a range of tokens without outer space; None if a character is cut or a line end is inside."""
        text = self.source.vocabulary.text(self.tokens[start:stop]).strip()
        return None if "\ufffd" in text or "\n" in text or not text else text

    def indentation(self, at: int) -> str:
        """The spaces at the begin of the line that begins at token `at`."""
        text = self.source.vocabulary.text(self.tokens[at : at + 2])
        return text[: len(text) - len(text.lstrip(" "))]

    def paragraphs(self) -> np.ndarray:
        """Places before a paragraph. In a play only those between speeches."""
        places = self.scan.places(paragraphs=True)
        if not self.is_play or not len(places):
            return places
        table = self.source.vocabulary
        before, earlier = self.tokens[places - 1], self.tokens[np.maximum(places - 2, 0)]
        return places[table.blank[before] | (table.newline[before] & table.newline[earlier])]


def prose(draw: Random, source: TextSource, length: int) -> Ground:
    """A run of `length` tokens of text that is no program."""
    return Ground(source.run(draw, length), source)


def code(draw: Random, source: TextSource, length: int) -> Ground:
    """A run of `length` tokens of program text. Raises ConfigError if the pack has none."""
    return Ground(source.run_of_code(draw, length), source, is_code=True)


def plain(draw: Random, source: TextSource, length: int) -> Ground:
    """A run of `length` tokens of one source, each source as likely as its share of the tokens."""
    return Ground(source.run(draw, length, source=source.any_source(draw)), source)


def play(draw: Random, source: TextSource, encode: Encode, length: int) -> Ground:
    """A play of `length` tokens."""
    text = source.vocabulary.text(source.run(draw, length, source=_PLAY_SOURCE)).replace("\ufffd", "")
    cast = draw.randint(3, max(4, min(30, 4 + length // 700)))
    pieces = speaker.play(draw, text, cast=cast)
    encoded = encode([piece.text for piece in pieces])
    sizes = np.array([len(ids) for ids in encoded])
    if int(sizes.sum()) < length:  # markup and quotation marks taken out outweighed the names put in
        rest = prose(draw, source, length - int(sizes.sum())).tokens
    else:
        rest = np.empty(0, dtype=np.uint16)
    tokens = np.concatenate([np.array([i for ids in encoded for i in ids], dtype=np.uint16), rest])[:length]
    ends = np.cumsum(sizes)
    lines = []
    name = (0, 0)
    for piece, end, size in zip(pieces, ends.tolist(), sizes.tolist(), strict=True):
        if end > length:
            break
        if piece.kind == "name":
            name = (end - size, end)
        elif piece.kind == "line":
            lines.append(Line(end - size, end, *name, piece.speech, piece.text.strip()))
    return Ground(tokens, source, tuple(lines))


def asked_lines(ground: Ground) -> list[int]:
    """Indices of the lines that stand once in the play and have four words or more."""
    counts: dict[str, int] = {}
    for line in ground.lines:
        counts[line.text] = counts.get(line.text, 0) + 1
    return [i for i, line in enumerate(ground.lines)
            if counts[line.text] == 1 and line.text.count(" ") + 1 >= _LEAST_LINE_WORDS]  # fmt: skip
