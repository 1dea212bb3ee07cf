"""Kinds whose answer hangs on several statements of a row, or on one among many that look alike.

Covers: several keys, several values, two hops, variables, order, counts: how many groups, what is asked of each. Does
not cover: their words (octavo.data.tasks), places (octavo.data.sheet).
"""

from __future__ import annotations

from collections.abc import Mapping

from octavo.data.ground import asked_lines
from octavo.data.sheet import Ask, Sheet
from octavo.data.tasks import counting, hops, ordering, tracking
from octavo.data.tasks.fact import FactBook, Statement
from octavo.data.tasks.several import several, together

_FAMILY = (3, 8)  # least and most statements with keys that are nearly alike
_CHAIN = (1, 2, 2, 3, 3, 4, 5)  # variables of a chain; drawn
_TRACED = 0.25  # share of questions on variables that go back from one to its value
_PASSAGES = 0.5  # share of questions on order that quote the text; the others name planted things


def plan(sheet: Sheet, book: FactBook, counts: Mapping[str, int]) -> None:
    """Put in and ask about as many of each kind as `counts` says; kinds that it lacks are not asked."""
    _multi_key(sheet, book, counts.get("multi_key", 0))
    _multi_value(sheet, book, counts.get("multi_value", 0))
    _two_hops(sheet, book, counts.get("two_hop", 0), counts.get("two_hop_steps", 0))
    if counts.get("tracking", 0):
        _tracking(sheet, counts["tracking"])
    _counting(sheet, book, counts.get("counting", 0))
    _named_order(sheet, book, counts.get("ordering", 0))


def _multi_key(sheet: Sheet, book: FactBook, questions: int) -> None:
    draw = sheet.draw
    while questions > 0:
        family = book.family(draw.randint(*_FAMILY))
        placed = sheet.spread([made.statement for made in family])
        for number in draw.sample(range(len(family)), min(questions, draw.randint(1, 4), len(family))):
            questions -= 1
            index = placed[number]
            if index is not None:
                sheet.named.append((family[number].entity.text, index))
                sheet.said("multi_key", family[number], index, 1)


def _multi_value(sheet: Sheet, book: FactBook, questions: int) -> None:
    draw = sheet.draw
    last = None
    for _ in range(questions):
        # Half of them share the entity or the attribute of the one before.
        near = draw.random() if last is not None and draw.random() < 0.5 else None
        made = several(
            draw, sheet.words, book,
            entity=last.entity if last is not None and near is not None and near < 0.5 else None,
            attribute=last.attribute if last is not None and near is not None and near >= 0.5 else None,
        )  # fmt: skip
        last = made
        placed = zip(sheet.spread(list(made.statements)), made.statements, strict=True)
        found = {index: said for index, said in placed if index is not None}
        if found:
            inserts = sorted(found, key=lambda index: (sheet.plan.inserts[index].at, index))
            answer = together([found[index] for index in inserts])
            sheet.joined("multi_value", made.question(draw), answer, inserts, inserts[0])


def _two_hops(sheet: Sheet, book: FactBook, direct: int, steps: int) -> None:
    draw = sheet.draw
    while direct + steps > 0:
        group = hops.chains(draw, book, draw.randint(2, 4))
        placed = sheet.spread([made.statement for chain in group for made in (chain.first, chain.second)])
        for chain, i, j in zip(group, placed[::2], placed[1::2], strict=True):
            if direct + steps == 0:
                break
            with_steps = draw.random() * (direct + steps) < steps
            direct, steps = (direct, steps - 1) if with_steps else (direct - 1, steps)
            if i is None or j is None:
                continue
            if with_steps:
                sheet.joined("two_hop_steps", chain.step_question(draw), chain.steps, [i, j], j)
            else:
                sheet.joined("two_hop", chain.question(draw), chain.answer, [i, j], j)


def _tracking(sheet: Sheet, questions: int) -> None:
    draw = sheet.draw
    variables = tracking.Variables(draw, sheet.words, code=sheet.ground.is_code)
    while questions > 0:
        group = [variables.chain(draw.choice(_CHAIN)) for _ in range(draw.randint(2, 4))]
        low, high = sheet.window()
        asked = set(draw.sample(range(len(group)), min(questions, draw.randint(1, len(group)))))
        questions -= len(asked)
        for number, chain in enumerate(group):
            shares = sorted(draw.uniform(low, high) for _ in chain.names)
            placed = [sheet.line(variables.statement(*one), share)
                      for one, share in zip(chain.assignments, shares, strict=True)]  # fmt: skip
            inserts = [index for index in placed if index is not None]
            if number not in asked or len(inserts) < len(placed):
                continue
            if draw.random() < _TRACED:
                sheet.joined("tracking", chain.trace_question(draw), chain.trace, inserts, inserts[0])
            else:
                sheet.joined("tracking", chain.question(draw), chain.holders, inserts, inserts[0])


def _counting(sheet: Sheet, book: FactBook, questions: int) -> None:
    draw = sheet.draw
    while questions > 0:
        for made in counting.tallies(draw, book, min(questions, draw.randint(1, 3))):
            questions -= 1
            placed = sheet.spread([Statement(sentence, "", "") for sentence in made.sentences])
            inserts = [index for index in placed if index is not None]
            if inserts:
                last = max(inserts, key=lambda index: sheet.plan.inserts[index].at)
                sheet.joined("counting", made.question(draw), f" {len(inserts)}", inserts, last)


def _name_more(sheet: Sheet, book: FactBook, count: int) -> None:
    """State facts that nobody asks for, up to `count` things that a statement names."""
    for _ in range(count - len(sheet.named)):
        made = book.fact()
        index = sheet.state(made.statement, sheet.draw.random())
        if index is not None:
            sheet.named.append((made.entity.text, index))


def _named_order(sheet: Sheet, book: FactBook, questions: int) -> None:
    """Things that one statement alone names, asked by the order of their statements."""
    draw, inserts = sheet.draw, sheet.plan.inserts
    if questions <= 0:
        return
    if sheet.mix.focus:
        _name_more(sheet, book, questions)
    said = "\n".join("".join(insert.pieces) for insert in inserts).lower()
    alone = [(name, i) for name, i in sheet.named if " " in name and said.count(name.lower()) == 1]
    for _ in range(questions):
        chosen = draw.sample(alone, min(len(alone), draw.choice(ordering.CHOICES)))
        if len(chosen) < 2:
            return
        chosen.sort(key=lambda pair: (inserts[pair[1]].at, pair[1]))
        first = draw.random() < 0.6
        name, index = chosen[0 if first else -1]
        question = ordering.order_question([name for name, _ in chosen], draw, first=first)
        sheet.joined("ordering", question, " " + name, [i for _, i in chosen], index)


def passages(sheet: Sheet, questions: int) -> int:
    """Ask for the order of passages of the ground, of about half of `questions`; how many were asked."""
    draw, ground = sheet.draw, sheet.ground
    wanted = sum(draw.random() < _PASSAGES for _ in range(questions))
    if not wanted:
        return 0
    found = [passage for passage in ranges(sheet, 8 * wanted) if quotable(sheet, *passage)]
    asked = 0
    while asked < wanted:
        size = draw.choice(ordering.CHOICES)
        chosen, found = sorted(found[:size]), found[size:]
        if len(chosen) < 2:
            break
        for start, stop in chosen:
            sheet.take(start, stop)
        first = draw.random() < 0.6
        quotes = [ground.text(start, stop) or "" for start, stop in chosen]
        answer = chosen[0 if first else -1]
        question = ordering.order_question(quotes, draw, first=first, quoted=True)
        sheet.plan.asks.append(
            Ask("ordering", chosen[-1][1], question, answer_range=answer, source=answer, need=chosen[-1][1])
        )
        asked += 1
    return asked


def ranges(sheet: Sheet, count: int) -> list[tuple[int, int]]:
    """Beginnings of sentences, or of lines in a play."""
    draw, ground = sheet.draw, sheet.ground
    if ground.is_play:
        lines = [ground.lines[i] for i in asked_lines(ground) if ground.lines[i].stop < 0.97 * sheet.plan.used]
        whole = [(line.start, line.stop) for line in draw.sample(lines, min(len(lines), count))]
    else:
        whole = sheet.sentences(count)
    words = ordering.PASSAGE_WORDS
    return [(start, min(stop, ground.scan.after_words(start, draw.randint(*words)))) for start, stop in whole]


def quotable(sheet: Sheet, start: int, stop: int) -> bool:
    """Whether tokens start .. stop stand once, are free and have no quotation mark in them."""
    if sheet.ground.scan.word_count(start, stop) < 4 or sheet.taken[start + 1 : stop].any():
        return False
    text = sheet.ground.text(start, stop)
    return text is not None and '"' not in text and sheet.once(start + 1, stop)
