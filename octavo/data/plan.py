"""What is put into a row's ground and what is asked of it: how many questions of each kind, and the kinds whose answer
stands in one place.

Covers: facts, definitions, lists, chapters, quotations, speakers. Does not cover: kinds whose answer hangs on several
statements (octavo.data.linked), works (octavo.data.works), places (octavo.data.sheet), tokens (octavo.data.rows).
"""

from __future__ import annotations

from random import Random

import numpy as np

from octavo.data import linked, works
from octavo.data.ground import Ground, asked_lines
from octavo.data.shares import CODE_DENSITY, FOCUS, GROUP_TOKENS, QUESTION_TOKENS, STATEMENT_TOKENS, Mix
from octavo.data.sheet import Ask, Insert, Plan, Sheet
from octavo.data.tasks import chapter, definition, fact, keyvalue, quotation, speaker

__all__ = ["Ask", "Insert", "Mix", "Plan", "Planner"]
_ASKED = (0,) * 5 + (1,) * 11 + (2,) * 4  # how often one statement is asked
_ASKED_MEAN = sum(_ASKED) / len(_ASKED)


class Planner(Sheet):
    """Plans one row of `length` tokens."""

    def __init__(self, draw: Random, ground: Ground, length: int, mix: Mix) -> None:
        self.draw = draw
        self.mix = mix
        self.counts = self._counts(ground, length)
        load = sum(QUESTION_TOKENS[kind] * n for kind, n in self.counts.items())
        load += int((self.counts.get("fact", 0) + self.counts.get("definition", 0)) / _ASKED_MEAN * STATEMENT_TOKENS)
        load += self.counts.get("key_value", 0) * 60
        load += sum(GROUP_TOKENS.get(kind, 0) * n for kind, n in self.counts.items())
        used = max(int(0.35 * length), length - 1 - load)
        super().__init__(draw, ground, min(used, length - 1), mix)
        self.book = fact.FactBook(draw, self.words, hard=mix.hard)

    def _counts(self, ground: Ground, length: int) -> dict[str, int]:
        share = CODE_DENSITY if ground.is_code else 1.0
        total = max(1, round(share * length / self.mix.tokens_per_question * self.draw.uniform(0.75, 1.25)))
        shares = self.mix.shares(is_play=ground.is_play, is_code=ground.is_code, is_works=bool(ground.works))
        if self.mix.focus and self.draw.random() < self.mix.focus:
            shares = self._focused(shares)
        drawn = self.draw.choices(list(shares), list(shares.values()), k=total)
        return {kind: drawn.count(kind) for kind in shares}

    def _focused(self, shares: dict[str, float]) -> dict[str, float]:
        """Most questions of one kind, which is drawn by its share."""
        chosen = self.draw.choices(list(shares), list(shares.values()))[0]
        return {kind: (1 - FOCUS) * share + FOCUS * (kind == chosen) for kind, share in shares.items()}

    def make(self) -> Plan:
        """The whole plan. All that is quoted is chosen before places are, so that nothing is put into its middle."""
        counts = self.counts
        begun = works.passages(self, counts.get("work", 0))
        if self.ground.is_code:
            self._code_lines(counts["quotation"])
        elif self.ground.is_play:
            self._speakers(counts["speaker"])
            self._verse(counts["quotation"])
        else:
            self._quotations(counts["quotation"])
        passages = linked.passages(self, counts.get("ordering", 0))
        if not self.ground.is_play and not self.ground.is_code:
            self._chapters(counts["chapter"])
            self._definitions(counts["definition"])
            self._lists(counts["key_value"])
        self._facts(counts.get("fact", 0))
        linked.plan(self, self.book, counts | {"ordering": counts.get("ordering", 0) - passages})
        works.characters(self, begun)
        for ask in self.plan.asks:
            ask.at = self.question_at(ask.at)
        if self.mix.tail and self.draw.random() < self.mix.tail:
            self._tail()
        elif self.draw.random() < self.mix.burst:
            self._burst()
        return self.plan

    # Kinds ------------------------------------------------------------------------------------------------------

    def _facts(self, questions: int) -> None:
        count = round(questions / _ASKED_MEAN)
        for number in range(count):
            made = self.book.fact()
            index = self.state(made.statement, (number + self.draw.random()) / count)
            if index is not None:
                self.named.append((made.entity.text, index))
                self.said("fact", made, index, self.draw.choice(_ASKED))

    def _definitions(self, questions: int) -> None:
        glossary = definition.Glossary(self.draw, self.words)
        for _ in range(round(questions / _ASKED_MEAN)):
            made = glossary.definition()
            index = self.state(made.statement, self.draw.random())
            if index is not None:
                self.said("definition", made, index, self.draw.choice(_ASKED))

    def _lists(self, questions: int) -> None:
        ledger = keyvalue.Ledger(self.draw, self.words)
        while questions > 0 and len(self.outer):
            asked = min(questions, self.draw.randint(2, 6))
            block = ledger.block(max(asked, min(40, int(asked * self.draw.uniform(2, 6)))))
            at = self.free(self.outer, int(self.draw.random() * 0.95 * self.plan.used))
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

    def _cut(self, start: int, stop: int, *, verse: bool) -> int | None:
        """Where to end the quoted part of a sentence or line; None if it does not suit."""
        scan = self.ground.scan
        words = quotation.quoted_words(self.draw, scan.word_count(start, stop), verse=verse)
        return None if words is None else scan.after_words(start, words)

    def _quotations(self, count: int) -> None:
        left = count
        for start, stop in self.sentences(count * 5):
            if left == 0:
                break
            cut = self._cut(start, stop, verse=False)
            if cut is None or self.taken[start + 1 : stop].any() or not self.once(start + 1, cut):
                continue
            quote = self.ground.text(start, cut)
            if quote is None or ('"' in quote and self.draw.random() < 0.7):
                continue
            left -= 1
            self._rest(start, cut, stop, quotation.rest_question(quote, self.draw))

    def _code_lines(self, count: int) -> None:
        """How lines of a program go on that stand in it once; they are cut between two words."""
        scan = self.ground.scan
        chosen = np.flatnonzero(scan.stops < 0.97 * self.plan.used).tolist()
        left = count
        for i in self.draw.sample(chosen, min(len(chosen), 6 * count)):
            start, stop = int(scan.starts[i]), int(scan.stops[i])
            words = scan.word_count(start, stop)
            if left == 0 or not 3 <= words <= 24 or stop - start > 40 or self.taken[start + 1 : stop].any():
                continue
            cut = scan.after_words(start, self.draw.randint(2, words - 1))
            quote = self.ground.text(start, cut)
            if quote is None or '"' in quote or not self.once(start, cut):
                continue
            left -= 1
            self._rest(start, cut, stop, quotation.rest_question(quote, self.draw))

    def _rest(self, start: int, cut: int, stop: int, question: str) -> None:
        self.take(start, stop)
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
        ats = sorted({at for near in wanted if (at := self.free(self.outer, near)) is not None})
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
        for start, stop in self.sentences(count * 5):
            owner = int(np.searchsorted(places, start, side="right")) - 1
            words = self.ground.scan.word_count(start, stop)
            if left == 0 or owner < 0 or words < quotation.MIN_WORDS or self.taken[start + 1 : stop].any():
                continue
            cut = stop if words <= 10 else self.ground.scan.after_words(start, self.draw.randint(6, 10))
            quote = self.ground.text(start, cut)
            if quote is None or not self.once(start + 1, cut) or any(start < at < stop for at in places):
                continue
            left -= 1
            self.take(start, cut)
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

    def _near_names(self, chosen: list[int]) -> list[int]:
        """Half of the lines moved up to where their speech begins: there other names are near, and most are missed."""
        lines, able = self.ground.lines, set(asked_lines(self.ground))
        moved: dict[int, None] = {}
        for index in chosen:
            first = index
            while first and lines[first - 1].speech == lines[index].speech:
                first -= 1
            moved[first if first in able and self.draw.random() < 0.5 else index] = None
        return list(moved)

    def _speakers(self, count: int) -> None:
        wanted = self._lines(count)
        if self.mix.focus:
            wanted = self._near_names(wanted)
        for index in wanted:
            line = self.ground.lines[index]
            quote = self._spoken(index)
            if self.draw.random() < 0.35:
                quote = quote.rstrip(".,;:!?-")
            self.take(line.start, line.stop)
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
                self.take(line.start, following.stop)
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

    def _tail(self) -> None:
        """Move all questions behind everything, in any order."""
        self.draw.shuffle(self.plan.asks)
        for ask in self.plan.asks:
            ask.at = len(self.ground.tokens)

    def _burst(self) -> None:
        """Move eight to twenty-four questions behind everything."""
        for ask in self.draw.sample(self.plan.asks, min(len(self.plan.asks), self.draw.randint(8, 24))):
            ask.at = len(self.ground.tokens)
