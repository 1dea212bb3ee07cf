"""All lessons of a pack: which kind comes next, and its row.

Covers: shares of the kinds, one lesson as a document of a row, spans of its answers. Does not cover: packing documents
into a row (octavo.data.bundle).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from octavo.data.ground import Encode
from octavo.data.lessons import material
from octavo.data.lessons.closed_book import ClosedBook
from octavo.data.lessons.dialogues import Dialogues
from octavo.data.lessons.lesson import Lesson, encoded
from octavo.data.lessons.open_book import OpenBook
from octavo.data.lessons.passages import Passages
from octavo.data.lessons.programs import Programs
from octavo.data.lessons.tools import Tools
from octavo.data.prose import TextSource
from octavo.data.row import Row
from octavo.data.shares import LESSON_KINDS, LESSON_SHARES


class Shelf:
    """Lessons over one pack, whose folder also holds the file of JavaScript tasks."""

    def __init__(self, source: TextSource, folder: Path, encode: Encode) -> None:
        """Raises ConfigError that names what the pack lacks."""
        self._encode, self._special = encode, source.vocabulary.special
        talks, tasks = Dialogues(source), material.programs(folder)
        self._makers: dict[str, Callable[[Random], Lesson]] = {
            "dialogue": talks.lesson, "tool": Tools(source, tasks, folder).lesson,
            "passage": Passages(source).lesson, "program": Programs(tasks).lesson,
            "closed_book": ClosedBook(source).lesson, "open_book": OpenBook(source).lesson,
        }  # fmt: skip

    def lesson(self, draw: Random, kinds: tuple[str, ...] = ()) -> Lesson:
        """A lesson of one of `kinds` or, without, of any, drawn by their shares."""
        names = kinds or tuple(LESSON_SHARES)
        return self._makers[draw.choices(names, [LESSON_SHARES[name] for name in names])[0]](draw)

    def row(self, draw: Random, kinds: tuple[str, ...] = ()) -> Row:
        """A lesson as a document: its tokens, weight 1 where they are taught, a span for each answer."""
        lesson = self.lesson(draw, kinds)
        tokens, weight = encoded([lesson], self._encode, self._special)[0]
        taught = np.concatenate([[False], weight >= 1.0, [False]])
        begins = np.flatnonzero(~taught[:-1] & taught[1:])
        spans = [(0, begin, 0, begin) for begin in begins.tolist()]
        name = lesson.kind if lesson.kind in LESSON_KINDS else LESSON_KINDS[0]
        return Row(
            tokens=tokens, weight=weight, span=np.array(spans, dtype=np.int32).reshape(-1, 4),
            kinds=(name,) * len(spans),
        )  # fmt: skip
