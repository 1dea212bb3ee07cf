"""Cells whose answers hang on several planted statements, or on one among many that look alike.

Covers: several keys, several values, two hops, variables, counts, and which of several things comes first. Does not
cover: cells of one statement (octavo.data.tasks.planted), where plantings stand (octavo.data.tasks.cell).

Every statement is a paragraph of its own; they are evenly spread in an order that is drawn: parts of an answer lie far
apart. Half of the groups are stated in wordings never trained, marked `unseen`; all questions are in such wordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from octavo.data.tasks import counting, hops, ordering
from octavo.data.tasks.cell import Maker, Planting, Question
from octavo.data.tasks.fact import FactBook, Statement
from octavo.data.tasks.found import Sentence, evenly, sentences
from octavo.data.tasks.several import several, together
from octavo.data.tasks.tracking import Variables

_FAMILY = 8  # statements of one relation with keys that share all but one word or syllable
_ASKED = 4  # of a family
_GROUP = 4  # chains of two hops with the same two attributes
_CHAIN = (1, 2, 2, 3, 3, 4, 5)  # variables of a chain; drawn


def _seen(unseen: bool) -> str:
    return "unseen" if unseen else "seen"


def _shuffled(maker: Maker, plantings: list[Planting]) -> tuple[str, list[Question]]:
    maker.draw.shuffle(plantings)
    return maker.plant(plantings)


def _said(statement: Statement, *asks: tuple[str, str, tuple[str, ...]], group: int | None = None) -> Planting:
    """A statement; asks: question, answer and marks of each."""
    text = statement.text
    return Planting(text=text, group=group, asks=tuple((prompt, answer.strip(), (0, len(text)), marks)
                                                       for prompt, answer, marks in asks))  # fmt: skip


def multi_keys(maker: Maker) -> tuple[str, list[Question]]:
    """Families of eight keys that are nearly alike, four of each asked."""
    book = FactBook(maker.draw, maker.word, held_out=True)
    plantings: list[Planting] = []
    left = maker.count
    while left > 0:
        family = book.family(_FAMILY)
        asked = min(left, _ASKED, len(family))
        left -= asked
        for number, made in enumerate(family):
            marks = (_seen(made.unseen), made.value_sort)
            ask = (made.question(maker.draw, held_out=True), made.statement.answer, marks)
            plantings.append(_said(made.statement, *([ask] if number < asked else [])))
    return _shuffled(maker, plantings)


def multi_values(maker: Maker) -> tuple[str, list[Question]]:
    """Two to four values of one key, asked in the order of the text; half of the keys share a part with another."""
    draw = maker.draw
    book = FactBook(draw, maker.word, held_out=True)
    made = [several(draw, maker.word, book, held_out=True)]
    while len(made) < maker.count:
        near = draw.random()
        made.append(
            several(draw, maker.word, book, held_out=True,
                    entity=made[-1].entity if near < 0.25 else None,
                    attribute=made[-1].attribute if 0.25 <= near < 0.5 else None)
        )  # fmt: skip
    order = [(number, said) for number, one in enumerate(made) for said in one.statements]
    draw.shuffle(order)
    plantings = []
    for place, (number, said) in enumerate(order):
        later = [other for who, other in order[place:] if who == number]
        one = made[number]
        asks: list[tuple[str, str, tuple[str, ...]]] = []
        if len(later) == len(one.statements):  # the first of them to come
            marks = (_seen(one.unseen), f"{len(later)} values")
            asks.append((one.question(draw, held_out=True), together(later), marks))
        plantings.append(_said(said, *asks, group=number))
    return maker.plant(plantings)


def _two_hop(maker: Maker, *, steps: bool) -> tuple[str, list[Question]]:
    draw = maker.draw
    book = FactBook(draw, maker.word, held_out=True)
    chains: list[hops.Chain] = []
    while len(chains) < maker.count:
        chains += hops.chains(draw, book, min(_GROUP, maker.count - len(chains)))
    plantings = []
    for number, chain in enumerate(chains):
        marks = (_seen(chain.unseen),)
        if steps:
            ask = (chain.step_question(draw, held_out=True), chain.steps, marks)
        else:
            ask = (chain.question(draw, held_out=True), chain.answer, marks)
        plantings += [_said(chain.first.statement, group=number), _said(chain.second.statement, ask, group=number)]
    return _shuffled(maker, plantings)


def two_hops(maker: Maker) -> tuple[str, list[Question]]:
    """Chains of two statements in groups of four with the same attributes; the end is asked."""
    return _two_hop(maker, steps=False)


def two_hops_with_steps(maker: Maker) -> tuple[str, list[Question]]:
    """As `two_hops`; the answer names the step between and the end, and both must be right."""
    return _two_hop(maker, steps=True)


def trackings(maker: Maker) -> tuple[str, list[Question]]:
    """Chains of one to five variables, all between one another; which variables hold a chain's first value?"""
    draw = maker.draw
    variables = Variables(draw, maker.word, held_out=True)
    placed: list[tuple[float, Planting]] = []
    for group in range(maker.count):
        chain = variables.chain(draw.choice(_CHAIN))
        unseen = draw.random() < 0.5
        marks = (_seen(unseen), f"{len(chain.names)} names")
        ask = (chain.question(draw, held_out=True), chain.holders, marks)
        for number, (name, value) in enumerate(chain.assignments):
            said = Statement(variables.statement(name, value, unseen=unseen), "", "")
            placed.append((0.0, _said(said, *([ask] if number == 0 else []), group=group)))
        shares = sorted(draw.random() for _ in chain.names)
        own = placed[-len(shares) :]
        placed[-len(shares) :] = [(share, planting) for share, (_, planting) in zip(shares, own, strict=True)]
    return maker.plant([planting for _, planting in sorted(placed, key=lambda pair: pair[0])])


def countings(maker: Maker) -> tuple[str, list[Question]]:
    """How often a thing is mentioned, one to eight times; half of the things are near twins of another."""
    draw = maker.draw
    book = FactBook(draw, maker.word, held_out=True)
    plantings: list[Planting] = []
    made: list[counting.Tally] = []
    while len(made) < maker.count:
        made += counting.tallies(draw, book, min(3, maker.count - len(made)), held_out=True)
    for group, tally in enumerate(made):
        times = len(tally.sentences)
        marks = (_seen(tally.unseen), f"{times} times")
        ask = (tally.question(draw, held_out=True), str(times), marks)
        for number, sentence in enumerate(tally.sentences):
            said = Statement(sentence, "", "")
            plantings.append(_said(said, *([ask] if number == 0 else []), group=group))
    return _shuffled(maker, plantings)


def orderings(maker: Maker) -> tuple[str, list[Question]]:
    """Which of two or four comes first (or last): half of the questions name planted things, half quote passages of the
    text. Marks tell which, and how many there were to choose from."""
    draw = maker.draw
    book = FactBook(draw, maker.word, hard=0.0, held_out=True)
    facts = []
    while len(facts) < max(8, maker.count // 2):
        made = book.fact()
        if len(made.entity.words) > 1 and all(made.entity.text != other.entity.text for other in facts):
            facts.append(made)
    document, marks = maker.plant(
        [Planting(text=made.statement.text, asks=(("", "", (0, len(made.statement.text)), ()),)) for made in facts]
    )
    named = [(made.entity.text, mark.source) for made, mark in zip(facts, marks, strict=True)]

    def fits(sentence: Sentence) -> bool:
        quote = _passage(document, sentence)
        return sentence.words >= ordering.PASSAGE_WORDS[1] and '"' not in quote and document.count(quote) == 1

    wanted = min(4 * (maker.count // 2), 96)
    quoted = [(_passage(document, one), (one.start, one.start + len(_passage(document, one))))
              for one in evenly(sentences(document), replace(maker, count=wanted), fits)]  # fmt: skip
    questions = []
    for number in range(maker.count):
        is_named = number % 2 == 0
        size = 2 if number % 4 < 2 else 4
        questions.append(_which_first(maker, document, named if is_named else quoted, is_named, size))
    return document, questions


def _passage(document: str, sentence: Sentence) -> str:
    """The first seven words of a sentence."""
    return " ".join(document[sentence.start : sentence.stop].split(" ")[:7])


def _which_first(
    maker: Maker, document: str, things: Sequence[tuple[str, tuple[int, int]]], is_named: bool, size: int
) -> Question:
    draw = maker.draw
    chosen = sorted(draw.sample(things, min(size, len(things))), key=lambda thing: thing[1])
    first = draw.random() < 0.5
    answer, source = chosen[0 if first else -1]
    names = [name for name, _ in chosen]
    prompt = ordering.order_question(names, draw, first=first, quoted=not is_named, held_out=True)
    marks = ("named" if is_named else "passages", f"of {len(chosen)}")
    evidence = tuple(span for _, span in chosen)
    return Question(
        prompt=prompt, answer=answer, source=source, depth=source[0] / len(document), marks=marks, evidence=evidence
    )  # fmt: skip
