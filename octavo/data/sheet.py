"""A row in the making: its ground, what is put into it and asked, as strings with places; nothing is encoded yet.

Covers: places where something may stand, distances between source and question, statements, whole sentences. Does not
cover: which kinds (octavo.data.plan, octavo.data.linked), tokens, fitting into the row's length (octavo.data.rows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np

from octavo.data.ground import Ground
from octavo.data.shares import Mix
from octavo.data.tasks import definition, fact

_SPLICED = 1 / 8  # share of drawn words that are made of two
_LEAST_WINDOW = 0.1  # of the row: the shortest part over which statements that belong together are spread


@dataclass(slots=True)
class Insert:
    """Something put in before ground token `at`: pieces of text; `kept[i]`: piece i is text to learn (not noise).

    newline: the ground's line end is repeated after it (it is a paragraph of its own).
    """

    at: int
    pieces: list[str]
    kept: list[bool]
    newline: bool = False


@dataclass(slots=True)
class Ask:
    """A question, put in before ground token `at`, which is drawn at the end: first it is where the source ends.

    The answer is piece `answer` of insert `insert`, or ground tokens `answer_range`, or `answer_text`.

    source: the ground tokens that hold the answer's ground, or None: the insert's pieces `source_pieces`.
    needed: further inserts without which the question has another answer or none.
    """

    kind: str
    at: int
    question: str
    insert: int | None = None
    answer: int = 0
    source_pieces: tuple[int, int] = (0, 0)
    answer_range: tuple[int, int] | None = None
    answer_text: str | None = None
    source: tuple[int, int] | None = None
    need: int = 0  # ground tokens that must be in the row for the question to make sense
    needed: tuple[int, ...] = ()

    def missing(self, dropped: set[int]) -> bool:
        """Whether an insert that the question stands on is among `dropped`."""
        return self.insert in dropped or not dropped.isdisjoint(self.needed)


@dataclass
class Plan:
    """Inserts and questions of a row over `used` ground tokens."""

    ground: Ground
    used: int
    inserts: list[Insert] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)


class Sheet:
    """The plan of one row over its first `used` ground tokens."""

    def __init__(self, draw: Random, ground: Ground, used: int, mix: Mix) -> None:
        self.draw = draw
        self.ground = ground
        self.mix = mix
        self.words = self._word
        self.plan = Plan(ground, used)
        self.taken = np.zeros(len(ground.tokens) + 1, dtype=bool)  # inside of a quoted range: nothing may be put in
        self.inner = self._below(ground.scan.places(paragraphs=False))
        self.outer = self._below(ground.paragraphs())
        if ground.is_code:
            self.inner = self.outer
        self.named: list[tuple[str, int]] = []  # names of entities, each with the insert that tells of it

    def _word(self) -> str:
        """A word of the text; one in eight is the halves of two, which only copying can spell."""
        word = self.ground.source.word(self.draw)
        if self.draw.random() < _SPLICED:
            other = self.ground.source.word(self.draw)
            word = word[: (len(word) + 1) // 2] + other[len(other) // 2 :]
        return word

    def _below(self, places: np.ndarray) -> np.ndarray:
        return places[places <= self.plan.used]

    # Places -----------------------------------------------------------------------------------------------------

    def free(self, places: np.ndarray, near: int) -> int | None:
        """The first place at or after `near` that is not inside of something quoted."""
        first = int(np.searchsorted(places, near))
        for index in range(first, min(len(places), first + 6)):
            if not self.taken[places[index]]:
                return int(places[index])
        return None

    def question_at(self, after: int) -> int:
        """Where to ask: at a distance from `after` that is log-uniform from 1 to the rest of the row."""
        room = max(1, self.plan.used - after)
        near = after + int(math.exp(self.draw.uniform(0.0, math.log(room + 1))))
        if self.draw.random() < self.mix.doubt:
            return near if not self.taken[min(near, len(self.taken) - 1)] else self.plan.used
        place = self.free(self.outer if self.draw.random() < 0.4 and len(self.outer) else self.inner, near)
        if place is None:
            place = self.free(self.outer, near)
        return self.plan.used if place is None else place

    def window(self) -> tuple[float, float]:
        """A part of the row, as shares of it, a tenth of it or longer: its length is drawn log-uniformly."""
        size = math.exp(self.draw.uniform(math.log(_LEAST_WINDOW), 0.0))
        low = self.draw.uniform(0.0, 1.0 - size)
        return low, low + size

    def spread(self, statements: list[fact.Statement]) -> list[int | None]:
        """Put `statements` in at places drawn from one part of the row; the index of each insert, or None.

        Their order in the row is drawn; what stands at one place keeps its order here.
        """
        low, high = self.window()
        return [self.state(statement, self.draw.uniform(low, high)) for statement in statements]

    # What is put in ---------------------------------------------------------------------------------------------

    def state(self, statement: fact.Statement, share: float) -> int | None:
        """Put a statement in near the given share of the row; the index of the insert, None without a place."""
        near = int(share * self.plan.used)
        own = self.draw.random() < (0.7 if self.ground.is_play else 0.4)
        order = (self.outer, self.inner) if own else (self.inner, self.outer)
        for places in order:
            at = self.free(places, near)
            if at is not None:
                break
        else:
            return None
        paragraph = places is self.outer
        before, answer, after = statement.before, statement.answer, statement.after
        if not paragraph:
            before, answer = (" " + before, answer) if before else ("", " " + answer)
        pieces = [(before, True), (answer, False), (after, True)]
        pieces = [(text, keep) for text, keep in pieces if text]
        insert = Insert(at, [text for text, _ in pieces], [keep for _, keep in pieces], newline=paragraph)
        self.plan.inserts.append(insert)
        return len(self.plan.inserts) - 1

    def line(self, text: str, share: float) -> int | None:
        """Put `text` in as a line of its own near the given share of the row; the index of the insert, or None."""
        at = self.free(self.outer, int(share * self.plan.used))
        if at is None:
            return None
        if self.ground.is_code:
            text = self.ground.indentation(at) + text + "\n"
        self.plan.inserts.append(Insert(at, [text], [False], newline=not self.ground.is_code))
        return len(self.plan.inserts) - 1

    def said(self, kind: str, made: fact.Fact | definition.Definition, index: int, times: int) -> None:
        """Ask for the answer of a statement that was put in as insert `index`."""
        insert = self.plan.inserts[index]
        answer = insert.kept.index(False)
        for _ in range(times):
            self.plan.asks.append(
                Ask(kind, insert.at, made.question(self.draw), insert=index, answer=answer,
                    source_pieces=(0, len(insert.pieces)))
            )  # fmt: skip

    def joined(self, kind: str, question: str, answer: str, inserts: list[int], source: int) -> None:
        """Ask a question that stands on several `inserts`, `source` the one whose place is the answer's."""
        plan = self.plan
        plan.asks.append(
            Ask(kind, max(plan.inserts[i].at for i in inserts), question, insert=source, answer_text=answer,
                source_pieces=(0, len(plan.inserts[source].pieces)), needed=tuple(inserts))
        )  # fmt: skip

    def take(self, start: int, stop: int) -> None:
        """Keep anything from being put into the ground tokens start .. stop."""
        self.taken[start + 1 : stop + 1] = True

    def once(self, start: int, stop: int) -> bool:
        """The tokens start .. stop stand nowhere else in the ground."""
        raw, part = self.ground.tokens.tobytes(), self.ground.tokens[start:stop].tobytes()
        places, at = 0, raw.find(part)
        while at >= 0 and places < 2:
            places += at % 2 == 0
            at = raw.find(part, at + 1)
        return places == 1

    def sentences(self, count: int) -> list[tuple[int, int]]:
        """Up to `count` sentences (ranges of tokens) inside the used ground, drawn evenly, closed by a mark."""
        scan = self.ground.scan
        chosen = np.flatnonzero(scan.closed & (scan.stops < 0.97 * self.plan.used))
        chosen = self.draw.sample(chosen.tolist(), min(len(chosen), count))
        return [(int(scan.starts[i]), int(scan.stops[i])) for i in chosen]
