"""Cells whose sources are found in the text itself: how a quotation goes on, who says a line.

Covers: sentences of prose, speeches of plays in the `NAME:` layout, choosing them evenly over the depth. A text with
speeches is asked by the line, any other by the sentence; speakers of a text without speeches are those of a play made
up from it. Does not cover: planted things.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from octavo.config.errors import LimitError
from octavo.data.tasks import quotation, speaker
from octavo.data.tasks.cell import Maker, Question

_BORDER = re.compile(r"(?<=[.!?])[\"'”’)]*(?= [\"'“‘]?[A-Z0-9])|\n+")
_ABBREVIATION = re.compile(r"(?:^|[\s\"'“‘(])(?:Mr|Mrs|Ms|Dr|St|Esq|Capt|Col|Gen|No|Vol|Rev|Hon|Prof|Jr|[A-Z])\.$")
_CLOSED = re.compile(r"[.!?][\"'”’)]*$")
_SPEECH = re.compile(r"(?m)(?:(?<=\n\n)|\A)([A-Z][^\n:_#.,;!?]{0,40}):\n((?:[^\n]+\n?)+)")
_SMALL = frozenset({"of", "the", "and", "to", "in", "with", "as", "de", "du", "a"})
_LONGEST_LINE = 20  # words


@dataclass(frozen=True, slots=True)
class Sentence:
    """Characters start .. stop of a text, and how many words they are."""

    start: int
    stop: int
    words: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """A line of a speech: its characters, its speaker, its number within the speech (from 0)."""

    start: int
    stop: int
    name: str
    number: int
    words: int


def sentences(text: str) -> list[Sentence]:
    """Sentences inside of lines that end with a closing mark, in order."""
    found = []
    start = 0
    for match in _BORDER.finditer(text):
        stop = match.start() if match.group().startswith("\n") else match.end()
        if not match.group().startswith("\n") and _ABBREVIATION.search(text[max(0, stop - 8) : stop]):
            continue
        begin = start + (text[start : start + 1] == " ")
        if _CLOSED.search(text[max(begin, stop - 4) : stop]):
            found.append(Sentence(begin, stop, text.count(" ", begin, stop) + 1))
        start = match.end()
    return found


def spoken_lines(text: str) -> list[Spoken]:
    """Lines of speeches set as a name with a colon on its own line, the speech below it up to a blank line.

    A name begins a paragraph and is written with capitals: a verse that ends with a colon is none.
    """
    found = []
    for match in _SPEECH.finditer(text):
        if not all(word[0].isupper() or word in _SMALL for word in match.group(1).split()):
            continue
        place = match.start(2)
        for number, line in enumerate(match.group(2).rstrip("\n").split("\n")):
            if not line.startswith(("_", "#")) and line.strip():
                lead = len(line) - len(line.lstrip())
                stop = place + len(line.rstrip())
                found.append(Spoken(place + lead, stop, match.group(1), number, line.strip().count(" ") + 1))
            place += len(line) + 1
    return found


Item = TypeVar("Item", Sentence, Spoken)


def evenly(items: Sequence[Item], maker: Maker, fits: Callable[[Item], bool]) -> list[Item]:
    """`maker.count` items that fit, in order: one from each of as many equal parts of the text, drawn in each part;
    for parts that have none, others drawn from the whole text.

    Raises LimitError when there are fewer than three quarters of them.
    """
    if not items:
        raise LimitError("the text of a cell has nothing that can be asked")
    total = items[-1].stop + 1
    parts: list[list[Item]] = [[] for _ in range(maker.count)]
    for item in items:
        parts[min(maker.count - 1, item.start * maker.count // total)].append(item)
    chosen: list[Item] = []
    spare: list[Item] = []
    for part in parts:
        maker.draw.shuffle(part)
        first = next((i for i, item in enumerate(part) if fits(item)), len(part))
        chosen += part[first : first + 1]
        spare += part[first + 1 :]
    maker.draw.shuffle(spare)
    for item in spare:
        if len(chosen) == maker.count:
            break
        if fits(item):
            chosen.append(item)
    chosen.sort(key=lambda item: item.start)
    if len(chosen) < 0.75 * maker.count:
        raise LimitError(f"the text has only {len(chosen)} places to ask at; {maker.count} were wanted")
    return chosen


def _cut(document: str, start: int, stop: int, words: int) -> int:
    """The character after word number `words` of start .. stop."""
    at = start
    for _ in range(words):
        at = document.index(" ", at + 1)
    return at


def quotations(maker: Maker) -> tuple[str, list[Question]]:
    """The first words of a sentence (of a line in a play) are quoted; the rest of it is the answer."""
    document = maker.filler(maker.length - 1)
    lines = spoken_lines(document)
    verse = len(lines) > maker.count
    cuts: dict[int, int] = {}

    def fits(item: Sentence | Spoken) -> bool:
        words = quotation.quoted_words(maker.draw, item.words, verse=verse)
        if words is None or "  " in document[item.start : item.stop]:
            return False
        cuts[item.start] = _cut(document, item.start, item.stop, words)
        quote = document[item.start : cuts[item.start]]
        return '"' not in quote and document.count(quote) == 1

    chosen: Sequence[Sentence | Spoken] = (
        evenly(lines, maker, fits) if verse else evenly(sentences(document), maker, fits)
    )
    return document, [
        Question(
            prompt=quotation.rest_question(document[item.start : cuts[item.start]], maker.draw, held_out=True),
            answer=document[cuts[item.start] : item.stop].strip(), source=(item.start, item.stop),
            depth=item.start / len(document),
        )
        for item in chosen
    ]  # fmt: skip


def speakers(maker: Maker) -> tuple[str, list[Question]]:
    """A line is quoted whole; the answer is the name over its speech. Marks tell how far into the speech it stands."""
    if len(spoken_lines(maker.text[:200_000])) > 50:
        document = maker.filler(maker.length - 1)
    else:
        document = _made_up(maker)

    def fits(line: Spoken) -> bool:
        return 5 <= line.words <= _LONGEST_LINE and document.count(document[line.start : line.stop]) == 1

    questions = []
    for line in evenly(spoken_lines(document), maker, fits):
        quote = document[line.start : line.stop]
        far = "line 1-4" if line.number < 4 else "line 5-12" if line.number < 12 else "line 13-"
        said = document.rindex(f"{line.name}:\n", 0, line.start)
        questions.append(
            Question(prompt=speaker.speaker_question(quote, maker.draw, held_out=True), answer=line.name,
                     source=(line.start, line.stop), depth=line.start / len(document), marks=(far,),
                     evidence=((said, said + len(line.name)), (line.start, line.stop)))
        )  # fmt: skip
    return document, questions


def _made_up(maker: Maker) -> str:
    """A play of the wanted length spoken in the filler's sentences, in the layout that `spoken_lines` reads."""
    prose = maker.filler(int(1.2 * maker.length))
    cast = max(6, min(30, 4 + maker.length // 700))
    while True:
        pieces = speaker.play(maker.draw, prose, cast=cast)
        text = "".join(piece.text for piece in pieces)
        speeches = sum(piece.kind == "name" for piece in pieces)
        every = sum(1 for _ in _SPEECH.finditer(text)) >= 0.98 * speeches  # none runs on into the next
        if every and len(spoken_lines(text)) > max(maker.count, len(text) // 400):
            break
    ids, starts = maker.tokenizer.encode_with_offsets(text)
    if len(ids) < maker.length:
        raise LimitError(f"the made-up play has only {len(ids)} tokens, the cell needs {maker.length}")
    return text[: starts[maker.length - 1]]
