"""Two hops: one statement names a person or place by an attribute of something, another says something of that one.

Covers: groups of chains that have the same two attributes, so that neither hop alone gives the answer; questions that
ask for the end, and for the step before it too. Does not cover: where the statements stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.data.tasks import attributes, names
from octavo.data.tasks.fact import Fact, FactBook, capital, careless
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.linked_wordings import HOP_QUESTIONS, STEP_QUESTIONS
from octavo.data.tasks.wordings import FACT_QUESTIONS

_BETWEEN = {"person": "person", "place": "town"}  # sorts of a first attribute, and the sort of entity that it names
_FIRST = tuple(name for name, sort in attributes.ATTRIBUTES.items() if sort in _BETWEEN)
_SHORT = 0.5  # share of questions that name what is meant as a plain question would: "the owner of the red box"
_TWINS = 0.5  # share of chains whose ends are near twins of those of an earlier one


@dataclass(frozen=True, slots=True)
class Chain:
    """first: the fact that leads to the entity of `second`."""

    first: Fact
    second: Fact

    @property
    def unseen(self) -> bool:
        """Both are stated in wordings kept for tests."""
        return self.first.unseen and self.second.unseen

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """Asks for the end of the chain."""
        a, b, e = self.first.relation, self.second.relation, self.first.entity.text
        if draw.random() < _SHORT:
            what = f"the {a} of {e}" if held_out or draw.random() < 0.6 else f"{e}'s {a}"
            text = FACT_QUESTIONS.pick(draw, held_out=held_out).format(e=what, a=b)
        else:
            text = HOP_QUESTIONS.pick(draw, held_out=held_out).format(e=e, a=a, b=b)
        return capital(text) if held_out else dressed(careless(capital(text), draw), draw)

    def step_question(self, draw: Random, *, held_out: bool = False) -> str:
        """Asks for the step between and for the end."""
        text = STEP_QUESTIONS.pick(draw, held_out=held_out)
        text = capital(text.format(e=self.first.entity.text, a=self.first.relation, b=self.second.relation))
        return text if held_out else dressed(careless(text, draw), draw)

    @property
    def answer(self) -> str:
        """The end, with a space before it."""
        return " " + self.second.statement.answer.strip()

    @property
    def steps(self) -> str:
        """The step between and the end: " Anna Bell, 48213"."""
        return f" {self.first.statement.answer.strip()}, {self.second.statement.answer.strip()}"


def chains(draw: Random, book: FactBook, count: int) -> list[Chain]:
    """`count` chains with the same two attributes; what is said of their entities stands in `book`, too."""
    a = draw.choice(_FIRST)
    b = draw.choice(attributes.NAMES)
    sort = _BETWEEN[attributes.ATTRIBUTES[a]]
    made: list[Chain] = []
    while len(made) < count:
        near = bool(made) and draw.random() < _TWINS
        start = names.twin(made[-1].first.entity, draw) if near else names.entity(draw)
        end = names.twin(made[-1].second.entity, draw) if near else names.entity(draw, sort)
        if not book.is_free(start, a) or not book.is_free(end, b) or start.text == end.text:
            continue
        made.append(Chain(book.told(start, a, end.text), book.told(end, b)))
    return made
