"""Planted facts: statements of an entity's attribute, the questions for them, and hard negatives.

Covers: one row's (or cell's) facts, no two of which answer the same question. Does not cover: where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.data.tasks import attributes, names, wordings
from octavo.data.tasks.authored.relations import AUTHORED
from octavo.data.tasks.frames import dressed, framed
from octavo.data.tasks.relations import RELATIONS, Relation
from octavo.data.tasks.values import Words, value
from octavo.data.tasks.verbs import VERBS

_RELATIONS = (0.15, 0.1, 0.4)  # shares of training facts told by relations of the tests, by verbs, by authored ones
_ALIKE = ("coined", "surname")  # single words of these slots have twins that are nearly alike
_TEST_RELATIONS = 0.25  # share of a test cell's facts told by relations


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence in three parts: before, answer, after. A space before the answer belongs to the answer.

    The parts join at borders of words, so that encoding them one by one gives the tokens of the whole.
    """

    before: str
    answer: str
    after: str

    @property
    def text(self) -> str:
        """The whole sentence."""
        return self.before + self.answer + self.after


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement with what its questions are made of; `relation` is an attribute's name or a verb. `unseen`: its
    wording is one of those kept for tests."""

    entity: names.Entity
    relation: str | Relation
    value_sort: str
    statement: Statement
    unseen: bool = False

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """A question for this fact, in one of its wordings."""
        if isinstance(self.relation, Relation):
            text = self.relation.questions.pick(draw, held_out=held_out).format(e=self.entity.text)
        else:
            who = self.value_sort == "person" and draw.random() < 0.4
            table = wordings.WHO_QUESTIONS if who else wordings.FACT_QUESTIONS
            text = table.pick(draw, held_out=held_out).format(e=self.entity.text, a=self.relation)
        text = capital(text)
        return text if held_out else dressed(careless(text, draw), draw)


def capital(text: str) -> str:
    """`text` with its first letter in capitals."""
    return text[:1].upper() + text[1:]


def careless(text: str, draw: Random) -> str:
    """One time in twelve as people type: no capital at the start, no mark at the end."""
    if draw.random() > 1 / 12:
        return text
    return (text[:1].lower() + text[1:]).rstrip("?.")


def split_at_answer(wording: str, answer: str, **fields: str) -> Statement:
    """`wording` filled in and cut around {v}."""
    left, right = wording.split("{v}")
    before, after = left.format(**fields), right.format(**fields)
    if not before:
        return Statement("", capital(answer), after)
    before = capital(before)
    if not before[-1].isspace() and not before[-1].isalnum():
        answer = answer.lstrip("£$")
    if before.endswith(" "):
        return Statement(before[:-1], " " + answer, after)
    return Statement(before, answer, after)


def _key(who: names.Entity, what: str | Relation) -> tuple[str, str]:
    return who.text.lower(), what if isinstance(what, str) else what.name


class FactBook:
    """Draws facts that never contradict each other: each pair of entity and relation is stated once.

    hard: share of facts made as near twins of earlier ones (same relation of a similar entity, another relation of the
    same entity, a used relation of a new entity). facts: all that were drawn. held_out: numbers of the test ranges, and
    half of the statements in wordings that training never shows.
    """

    def __init__(self, draw: Random, words: Words, *, hard: float = 0.5, held_out: bool = False) -> None:
        self._draw = draw
        self._words = words
        self._hard = hard
        self._held_out = held_out
        self.facts: list[Fact] = []
        self._used: set[tuple[str, str]] = set()

    def _fresh(self) -> tuple[names.Entity, str | Relation]:
        draw = self._draw
        shares = (_TEST_RELATIONS,) if self._held_out else _RELATIONS
        chance = draw.random()
        for share, table in zip(shares, (RELATIONS, VERBS, AUTHORED), strict=False):
            if chance < share:
                relation = draw.choice(table)
                return names.entity(draw, relation.entity), relation
            chance -= share
        return names.entity(draw), draw.choice(attributes.NAMES)

    def _near(self) -> tuple[names.Entity, str | Relation]:
        draw = self._draw
        model = draw.choice(self.facts)
        how = draw.random()
        if how < 0.45:
            return names.twin(model.entity, draw), model.relation
        if how < 0.75:
            return model.entity, draw.choice(attributes.NAMES)
        sort = model.relation.entity if isinstance(model.relation, Relation) else None
        return names.entity(draw, sort), model.relation

    def fact(self, *, relation: str | None = None) -> Fact:
        """A new fact; `relation`: of this attribute."""
        while True:
            near = bool(self.facts) and self._draw.random() < self._hard
            who, what = self._near() if near else self._fresh()
            what = relation or what
            if self.is_free(who, what):
                break
        return self.told(who, what)

    def family(self, count: int) -> list[Fact]:
        """Up to `count` facts of one relation, whose entities differ from the first one's in one word or syllable."""
        while True:
            first, what = self._fresh()
            if (len(first.words) > 1 or first.slots[0] in _ALIKE) and self.is_free(first, what):
                break
        facts = [self.told(first, what)]
        for _ in range(6 * count):
            if len(facts) == count:
                break
            who = names.twin(first, self._draw)
            if self.is_free(who, what):
                facts.append(self.told(who, what))
        return facts

    def is_free(self, who: names.Entity, what: str | Relation) -> bool:
        """Whether nothing was said yet of this pair."""
        return _key(who, what) not in self._used

    def reserve(self, who: names.Entity, what: str) -> None:
        """Keep a pair for statements that are not made here."""
        self._used.add(_key(who, what))

    def mentions(self, text: str) -> bool:
        """Whether an entity with this name occurs."""
        return any(text.lower() == name for name, _ in self._used)

    def told(self, who: names.Entity, what: str | Relation, answer: str | None = None) -> Fact:
        """The fact that `what` of `who` is `answer`, which is drawn if left out. The pair must be free."""
        self._used.add(_key(who, what))
        sort = attributes.ATTRIBUTES[what] if isinstance(what, str) else what.value
        if answer is None:
            answer = value(self._draw, sort, self._words, held_out=self._held_out)
        unseen = self._held_out and self._draw.random() < 0.5
        if isinstance(what, str):
            wording = wordings.FACT_STATEMENTS.pick(self._draw, held_out=unseen, plain=self._held_out)
            statement = split_at_answer(wording, answer, e=who.text, a=what)
        else:
            wording = what.statements.pick(self._draw, held_out=unseen)
            wording = wording if self._held_out else framed(wording, self._draw)
            statement = split_at_answer(wording, answer, e=who.text)
        fact = Fact(who, what, sort, statement, unseen)
        self.facts.append(fact)
        return fact
