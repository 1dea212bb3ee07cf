"""Cells whose sources are planted: facts, definitions, lists of keys, chapter headings over held-out prose.

Covers: what is planted and asked. Does not cover: where it stands (octavo.data.tasks.cell).
"""

from __future__ import annotations

import re

from octavo.data.tasks import chapter, definition, fact, keyvalue
from octavo.data.tasks.cell import Maker, Planting, Question
from octavo.data.tasks.found import Sentence, evenly, sentences
from octavo.data.tasks.quotation import chapter_question

_CHAPTER_LINE = re.compile(r"(?im)^.*\b(?:chapter|book|part|letter|section)\b.*$\n?")
_HARD = 0.3  # share of facts that are near twins of another one in the cell


def _one(made: fact.Fact | definition.Definition, maker: Maker, marks: tuple[str, ...]) -> Planting:
    statement = made.statement
    ask = (made.question(maker.draw, held_out=True), statement.answer.strip(), (0, len(statement.text)), marks)
    return Planting(text=statement.text, asks=(ask,))


def facts(maker: Maker) -> tuple[str, list[Question]]:
    """One statement for each question; a third are near twins of another, half are in wordings never trained."""
    book = fact.FactBook(maker.draw, maker.word, hard=_HARD, held_out=True)
    made = [book.fact() for _ in range(maker.count)]
    maker.draw.shuffle(made)
    return maker.plant([_one(each, maker, ("unseen" if each.unseen else "seen", each.value_sort)) for each in made])


def definitions(maker: Maker) -> tuple[str, list[Question]]:
    """One word and its meaning for each question, all in wordings never trained."""
    glossary = definition.Glossary(maker.draw, maker.word, held_out=True)
    return maker.plant([_one(glossary.definition(), maker, ()) for _ in range(maker.count)])


def key_values(maker: Maker) -> tuple[str, list[Question]]:
    """Lists of twelve lines with keys nearly alike; one line in three is asked for."""
    ledger = keyvalue.Ledger(maker.draw, maker.word, held_out=True)
    plantings: list[Planting] = []
    left = maker.count
    while left > 0:
        block = ledger.block(12)
        asked = set(maker.draw.sample(range(len(block.entries)), min(4, left, len(block.entries))))
        left -= len(asked)
        lines: list[str] = []
        asks = []
        size = 0
        for index, entry in enumerate(block.entries):
            line = block.mark + entry.key + entry.joint + entry.answer
            if index in asked:
                prompt = entry.question(maker.draw, held_out=True)
                asks.append((prompt, entry.answer.strip(), (size, size + len(line)), ()))
            lines.append(line)
            size += len(line) + 1
        plantings.append(Planting(text="\n".join(lines), asks=tuple(asks)))
    return maker.plant(plantings)


def chapters(maker: Maker) -> tuple[str, list[Question]]:
    """Headings about every 1,000 tokens, and sentences quoted from the chapters; the text's own headings are cut."""
    maker.text = _CHAPTER_LINE.sub("", maker.text)
    heads = chapter.headings(maker.draw, max(2, min(90, maker.length // 1000)))
    document, marks = maker.plant(
        [Planting(text=head.before + head.answer + head.after, asks=(("", head.answer, (0, 1), ()),)) for head in heads]
    )
    starts = [mark.source[0] for mark in marks]

    def fits(sentence: Sentence) -> bool:
        quote = _quoted(document, sentence)
        return sentence.start > starts[0] and sentence.words >= 6 and '"' not in quote and document.count(quote) == 1

    questions = []
    for sentence in evenly(sentences(document), maker, fits):
        owner = max(i for i, start in enumerate(starts) if start <= sentence.start)
        quote = _quoted(document, sentence)
        questions.append(
            Question(prompt=chapter_question(quote, maker.draw, held_out=True), answer=marks[owner].answer,
                     source=(sentence.start, sentence.start + len(quote)), depth=sentence.start / len(document))
        )  # fmt: skip
    return document, questions


def _quoted(document: str, sentence: Sentence) -> str:
    """The first ten words of a sentence, without its full stop."""
    return " ".join(document[sentence.start : sentence.stop].split(" ")[:10]).rstrip(".")
