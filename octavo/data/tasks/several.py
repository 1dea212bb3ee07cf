"""Several values of one key: the same attribute of the same entity, stated more than once, all asked for.

Covers: the values, a statement for each, the question, the answer. Does not cover: where the statements stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from octavo.data.tasks import attributes, names
from octavo.data.tasks.fact import FactBook, Statement, capital, careless, split_at_answer
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.linked_wordings import SEVERAL_QUESTIONS, SEVERAL_STATEMENTS
from octavo.data.tasks.values import Words, value
from octavo.data.tasks.wordings import FACT_STATEMENTS

MOST = 4
_PLAIN = 0.35  # share of training statements worded as of a single value, of which there are ten times as many wordings
_SORTS = ("number", "word", "pair", "colour", "person", "place", "animal", "trade")  # none of them holds a comma
_NAMES = tuple(name for name, sort in attributes.ATTRIBUTES.items() if sort in _SORTS)


@dataclass(frozen=True, slots=True)
class Several:
    """An entity's attribute with two to four values, a statement for each. `unseen`: in wordings kept for tests."""

    entity: names.Entity
    attribute: str
    statements: tuple[Statement, ...]
    unseen: bool = False

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """Asks for all values."""
        text = SEVERAL_QUESTIONS.pick(draw, held_out=held_out).format(e=self.entity.text, a=self.attribute)
        return capital(text) if held_out else dressed(careless(capital(text), draw), draw)


def together(statements: Sequence[Statement]) -> str:
    """The answers of `statements` in their order, with commas: " 48213, 90155"."""
    return " " + ", ".join(statement.answer.strip() for statement in statements)


def several(
    draw: Random, words: Words, book: FactBook, *, entity: names.Entity | None = None, attribute: str | None = None,
    held_out: bool = False,
) -> Several:  # fmt: skip
    """A new one, of an entity and attribute that `book` says nothing of and will say nothing of."""
    attribute = attribute or draw.choice(_NAMES)
    who = entity or names.entity(draw)
    while not book.is_free(who, attribute):
        who = names.entity(draw)
    book.reserve(who, attribute)
    unseen = held_out and draw.random() < 0.5
    found: dict[str, Statement] = {}
    count = draw.randint(2, MOST)
    sort = attributes.ATTRIBUTES[attribute]
    while len(found) < count:
        answer = value(draw, sort, words, held_out=held_out)
        plain = not held_out and draw.random() < _PLAIN
        wording = FACT_STATEMENTS.pick(draw) if plain else SEVERAL_STATEMENTS.pick(draw, held_out=unseen)
        found.setdefault(answer.lower(), split_at_answer(wording, answer, e=who.text, a=attribute))
    return Several(who, attribute, tuple(found.values()), unseen)
