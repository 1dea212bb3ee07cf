"""What is put into a row's ground and what is asked of it, as strings with places; nothing is encoded yet.

Covers: shares of the kinds, choosing places and sources, distances between source and question. Does not cover: tokens
of what is put in, fitting into the row's length (octavo.data.rows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np

from octavo.data.ground import Ground, asked_lines
from octavo.data.tasks import chapter, definition, fact, keyvalue, quotation, speaker

# Tokens that a question with its answer takes, about; used to plan how full a row gets.
QUESTION_TOKENS = {"fact": 30, "quotation": 46, "speaker": 32, "chapter": 36, "definition": 30, "key_value": 26}
STATEMENT_TOKENS = 20
_ASKED = (0,) * 5 + (1,) * 11 + (2,) * 4  # how often one statement is asked
_SPLICED = 1 / 8  # share of drawn words that are made of two
_ASKED_MEAN = sum(_ASKED) / len(_ASKED)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of the kinds of question, and how densely a row is filled.

    tokens_per_question: row tokens to one question. burst: share of rows that end in a burst of questions. hard: share
    of statements made as near twins of earlier ones. text_weight: loss weight of text. doubt: share of questions put at
    no border of sentences.
    """

    fact: float = 0.36
    quotation: float = 0.24
    speaker: float = 0.25
    chapter: float = 0.03
    definition: float = 0.04
    key_value: float = 0.08
    tokens_per_question: float = 110
    burst: float = 0.5
    hard: float = 0.5
    text_weight: float = 0.15
    doubt: float = 0.1

    # In plays three questions of five are for the speaker, one in four for a quotation, the rest for facts.
    @property
    def play_rows(self) -> float:
        """Share of rows that are plays."""
        return min(1.0, self.speaker / 0.6)

    def shares(self, *, is_play: bool) -> dict[str, float]:
        """Share of each kind among the questions of one row."""
        if is_play:
            return {"speaker": 0.6, "quotation": 0.25, "fact": 0.15}
        plays = self.play_rows
        left = {
            "fact": max(0.0, self.fact - 0.15 * plays), "quotation": max(0.0, self.quotation - 0.25 * plays),
            "chapter": self.chapter, "definition": self.definition, "key_value": self.key_value,
        }  # fmt: skip
        total = sum(left.values()) or 1.0
        return {kind: share / total for kind, share in left.items()}


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

    The answer is piece `answer` of insert `insert`, or ground tokens `answer_range`.

    source: the ground tokens that hold the answer's ground, or None: the insert's pieces `source_pieces`.
    """

    kind: str
    at: int
    question: str
    insert: int | None = None
    answer: int = 0
    source_pieces: tuple[int, int] = (0, 0)
    answer_range: tuple[int, int] | None = None
    source: tuple[int, int] | None = None
    need: int = 0  # ground tokens that must be in the row for the question to make sense


@dataclass
class Plan:
    """Inserts and questions of a row over `used` ground tokens."""

    ground: Ground
    used: int
    inserts: list[Insert] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)


class Planner:
    """Plans one row of `length` tokens."""

    def __init__(self, draw: Random, ground: Ground, length: int, mix: Mix) -> None:
        self.draw = draw
        self.ground = ground
        self.mix = mix
        self.words = self._word
        self.counts = self._counts(length)
        load = sum(QUESTION_TOKENS[kind] * n for kind, n in self.counts.items())
        load += int((self.counts.get("fact", 0) + self.counts.get("definition", 0)) / _ASKED_MEAN * STATEMENT_TOKENS)
        load += self.counts.get("key_value", 0) * 60
        used = max(int(0.35 * length), length - 1 - load)
        self.plan = Plan(ground, min(used, length - 1))
        self.taken = np.zeros(len(ground.tokens) + 1, dtype=bool)  # inside of a quoted range: nothing may be put in
        self.inner = self._below(ground.scan.places(paragraphs=False))
        self.outer = self._below(ground.paragraphs())

    def _word(self) -> str:
        """A word of the text; one in eight is the halves of two, which only copying can spell."""
        word = self.ground.source.word(self.draw)
        if self.draw.random() < _SPLICED:
            other = self.ground.source.word(self.draw)
            word = word[: (len(word) + 1) // 2] + other[len(other) // 2 :]
        return word

    def _below(self, places: np.ndarray) -> np.ndarray:
        return places[places <= self.plan.used]

    def _counts(self, length: int) -> dict[str, int]:
        total = max(1, round(length / self.mix.tokens_per_question * self.draw.uniform(0.75, 1.25)))
        shares = self.mix.shares(is_play=self.ground.is_play)
        drawn = self.draw.choices(list(shares), list(shares.values()), k=total)
        return {kind: drawn.count(kind) for kind in shares}

    def make(self) -> Plan:
        """The whole plan. All that is quoted is chosen before places are, so that nothing is put into its middle."""
        if self.ground.is_play:
            self._speakers(self.counts["speaker"])
            self._verse(self.counts["quotation"])
        else:
            self._quotations(self.counts["quotation"])
            self._chapters(self.counts["chapter"])
            self._definitions(self.counts["definition"])
            self._lists(self.counts["key_value"])
        self._facts(self.counts["fact"])
        for ask in self.plan.asks:
            ask.at = self._question_at(ask.at)
        if self.draw.random() < self.mix.burst:
            self._burst()
        return self.plan

    # Places -----------------------------------------------------------------------------------------------------

    def _free(self, places: np.ndarray, near: int) -> int | None:
        """The first place at or after `near` that is not inside of something quoted."""
        for index in range(
            int(np.searchsorted(places, near)), min(len(places), int(np.searchsorted(places, near)) + 6)
        ):
            if not self.taken[places[index]]:
                return int(places[index])
        return None

    def _question_at(self, after: int) -> int:
        """Where to ask: at a distance from `after` that is log-uniform from 1 to the rest of the row."""
        room = max(1, self.plan.used - after)
        near = after + int(math.exp(self.draw.uniform(0.0, math.log(room + 1))))
        if self.draw.random() < self.mix.doubt:
            return near if not self.taken[min(near, len(self.taken) - 1)] else self.plan.used
        place = self._free(self.outer if self.draw.random() < 0.4 and len(self.outer) else self.inner, near)
        if place is None:
            place = self._free(self.outer, near)
        return self.plan.used if place is None else place

    def _statement(self, statement: fact.Statement, share: float) -> int | None:
        """Put a statement in near the given share of the row; the index of the insert."""
        near = int(share * self.plan.used)
        own = self.draw.random() < (0.7 if self.ground.is_play else 0.4)
        order = (self.outer, self.inner) if own else (self.inner, self.outer)
        for places in order:
            at = self._free(places, near)
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

    def _said(self, kind: str, made: fact.Fact | definition.Definition, index: int, times: int) -> None:
        insert = self.plan.inserts[index]
        answer = insert.kept.index(False)
        for _ in range(times):
            self.plan.asks.append(
                Ask(kind, insert.at, made.question(self.draw), insert=index, answer=answer,
                    source_pieces=(0, len(insert.pieces)))
            )  # fmt: skip

    # Kinds ------------------------------------------------------------------------------------------------------

    def _facts(self, questions: int) -> None:
        book = fact.FactBook(self.draw, self.words, hard=self.mix.hard)
        count = round(questions / _ASKED_MEAN)
        for number in range(count):
            made = book.fact()
            index = self._statement(made.statement, (number + self.draw.random()) / count)
            if index is not None:
                self._said("fact", made, index, self.draw.choice(_ASKED))

    def _definitions(self, questions: int) -> None:
        glossary = definition.Glossary(self.draw, self.words)
        for _ in range(round(questions / _ASKED_MEAN)):
            made = glossary.definition()
            index = self._statement(made.statement, self.draw.random())
            if index is not None:
                self._said("definition", made, index, self.draw.choice(_ASKED))

    def _lists(self, questions: int) -> None:
        ledger = keyvalue.Ledger(self.draw, self.words)
        while questions > 0 and len(self.outer):
            asked = min(questions, self.draw.randint(2, 6))
            block = ledger.block(max(asked, min(40, int(asked * self.draw.uniform(2, 6)))))
            at = self._free(self.outer, int(self.draw.random() * 0.95 * self.plan.used))
            questions -= asked
            if at is None:
                continue
            pieces: list[str] = []
            kept: list[bool] = []
            for entry in block.entries:
                pieces += [block.mark + entry.key + entry.joint, entry.answer, "\n"]
                kept += [False, False, True]
            pieces[-1] = "\n\n"
            self.plan.inserts.append(Insert(at, pieces, kept))
            for number in self.draw.sample(range(len(block.entries)), min(asked, len(block.entries))):
                self.plan.asks.append(
                    Ask("key_value", at, block.entries[number].question(self.draw),
                        insert=len(self.plan.inserts) - 1, answer=3 * number + 1,
                        source_pieces=(3 * number, 3 * number + 2))
                )  # fmt: skip

    def _take(self, start: int, stop: int) -> None:
        self.taken[start + 1 : stop + 1] = True

    def _once(self, start: int, stop: int) -> bool:
        """The tokens start .. stop stand nowhere else in the ground."""
        raw, part = self.ground.tokens.tobytes(), self.ground.tokens[start:stop].tobytes()
        places, at = 0, raw.find(part)
        while at >= 0 and places < 2:
            places += at % 2 == 0
            at = raw.find(part, at + 1)
        return places == 1

    def _sentences(self, count: int) -> list[tuple[int, int]]:
        """Up to `count` sentences (ranges of tokens) inside the used ground, drawn evenly, closed by a mark."""
        scan = self.ground.scan
        chosen = np.flatnonzero(scan.closed & (scan.stops < 0.97 * self.plan.used))
        chosen = self.draw.sample(chosen.tolist(), min(len(chosen), count))
        return [(int(scan.starts[i]), int(scan.stops[i])) for i in chosen]

    def _cut(self, start: int, stop: int, *, verse: bool) -> int | None:
        """Where to end the quoted part of a sentence or line; None if it does not suit."""
        scan = self.ground.scan
        words = quotation.quoted_words(self.draw, scan.word_count(start, stop), verse=verse)
        return None if words is None else scan.after_words(start, words)

    def _quotations(self, count: int) -> None:
        left = count
        for start, stop in self._sentences(count * 5):
            if left == 0:
                break
            cut = self._cut(start, stop, verse=False)
            if cut is None or self.taken[start + 1 : stop].any() or not self._once(start + 1, cut):
                continue
            quote = self.ground.text(start, cut)
            if quote is None or ('"' in quote and self.draw.random() < 0.7):
                continue
            left -= 1
            self._rest(start, cut, stop, quotation.rest_question(quote, self.draw))

    def _rest(self, start: int, cut: int, stop: int, question: str) -> None:
        self._take(start, stop)
        self.plan.asks.append(
            Ask("quotation", stop, question, answer_range=(cut, stop), source=(start, stop), need=stop)
        )

    def _chapters(self, count: int) -> None:
        limit = self.plan.used
        text = self.ground.source.vocabulary.text(self.ground.tokens)
        if count == 0 or not len(self.outer) or "chapter" in text.lower():
            return
        number = max(2, min(60, limit // self.draw.randint(250, 1500)))
        wanted = [int((i + self.draw.random() * 0.8) / number * limit) for i in range(number)]
        ats = sorted({at for near in wanted if (at := self._free(self.outer, near)) is not None})
        heads = []
        for at, head in zip(ats, chapter.headings(self.draw, len(ats)), strict=True):
            before, answer = head.before, head.answer
            if before.endswith(" "):
                before, answer = before[:-1], " " + answer
            pieces = [text for text in (before, answer, head.after + "\n\n") if text]
            self.plan.inserts.append(Insert(at, pieces, [True] * len(pieces)))
            heads.append((at, len(self.plan.inserts) - 1, 1 if before else 0))
        places = [at for at, _, _ in heads]
        left = count
        for start, stop in self._sentences(count * 5):
            owner = int(np.searchsorted(places, start, side="right")) - 1
            words = self.ground.scan.word_count(start, stop)
            if left == 0 or owner < 0 or words < quotation.MIN_WORDS or self.taken[start + 1 : stop].any():
                continue
            cut = stop if words <= 10 else self.ground.scan.after_words(start, self.draw.randint(6, 10))
            quote = self.ground.text(start, cut)
            if quote is None or not self._once(start + 1, cut) or any(start < at < stop for at in places):
                continue
            left -= 1
            self._take(start, cut)
            self.plan.asks.append(
                Ask("chapter", stop, quotation.chapter_question(quote.rstrip("."), self.draw),
                    insert=heads[owner][1], answer=heads[owner][2], source=(start, cut), need=stop)
            )  # fmt: skip

    # Plays ------------------------------------------------------------------------------------------------------

    def _lines(self, count: int) -> list[int]:
        within = [i for i in asked_lines(self.ground) if self.ground.lines[i].stop < 0.97 * self.plan.used]
        return self.draw.sample(within, min(len(within), count))

    def _spoken(self, index: int) -> str:
        """What to quote of a line: all of it, a run of its words, or it and the next line."""
        draw, line = self.draw, self.ground.lines[index]
        words = line.text.split(" ")
        how = draw.random()
        if len(words) > 14 or (how < 0.3 and len(words) > 6):
            size = draw.randint(5, min(12, len(words)))
            begin = draw.randrange(len(words) - size + 1)
            return " ".join(words[begin : begin + size])
        if how > 0.9 and index + 1 < len(self.ground.lines) and self.ground.lines[index + 1].speech == line.speech:
            following = self.ground.lines[index + 1].text
            if following.count(" ") < 14:
                return line.text + draw.choice((" ", " / ", "\n")) + following
        return line.text

    def _speakers(self, count: int) -> None:
        for index in self._lines(count):
            line = self.ground.lines[index]
            quote = self._spoken(index)
            if self.draw.random() < 0.35:
                quote = quote.rstrip(".,;:!?-")
            self._take(line.start, line.stop)
            self.plan.asks.append(
                Ask("speaker", line.stop, speaker.speaker_question(quote, self.draw),
                    answer_range=(line.name_start, line.name_stop), source=(line.start, line.stop), need=line.stop)
            )  # fmt: skip

    def _verse(self, count: int) -> None:
        lines, left = self.ground.lines, count
        for index in self._lines(count * 4):
            if left == 0:
                break
            line = lines[index]
            following = lines[index + 1] if index + 1 < len(lines) else None
            same = following is not None and following.speech == line.speech
            if same and following is not None and self.draw.random() < 0.3 and max(
                line.text.count(" "), following.text.count(" ")
            ) < 15:  # fmt: skip
                left -= 1
                self._take(line.start, following.stop)
                self.plan.asks.append(
                    Ask("quotation", following.stop,
                        quotation.next_line_question(line.text, self.draw),
                        answer_range=(following.start, following.stop), source=(line.start, following.stop),
                        need=following.stop)
                )  # fmt: skip
                continue
            cut = self._cut(line.start, line.stop, verse=True)
            quote = None if cut is None else self.ground.text(line.start, cut)
            if cut is not None and quote is not None:
                left -= 1
                self._rest(line.start, cut, line.stop, quotation.rest_question(quote, self.draw))

    def _burst(self) -> None:
        """Move eight to twenty-four questions behind everything."""
        for ask in self.draw.sample(self.plan.asks, min(len(self.plan.asks), self.draw.randint(8, 24))):
            ask.at = len(self.ground.tokens)
