"""Facts that are asked with a text that states them, which need not be what the corpus says: the text wins.

Covers: some statements of which one or more answer, about things of the corpus as it tells them, about such things with
another answer, and about towns and countries that nobody knows; questions as lines, as `octavo eval facts` asks them,
in a message and behind a document; now and then a fact that the text does not tell, which is known by heart. Does not
cover: towns and facts that tests ask: what is told otherwise is a fact that the corpus itself asks for, and new names
have two or four syllables where those of `octavo.data.facts` have three.

A model that has learned facts by heart answers from memory where the text says something else, unless it is taught.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.config.errors import ConfigError
from octavo.data import ground as grounds
from octavo.data.facts import TRADES, NameMaker
from octavo.data.facts_phrases import phrases
from octavo.data.lessons import material
from octavo.data.lessons.closed_book import asked_line
from octavo.data.lessons.lesson import Lesson, conversation, turns_of_text
from octavo.data.lessons.material import AskedFact
from octavo.data.lessons.passages import PASTE, planted
from octavo.data.prose import TextSource

TOWNS = ("river", "founder", "trade")
_SETTLED = ("city_country", "airport_city", "media_type", "kind_of")  # relations whose subjects are not made up
_GROUPS = (TOWNS, ("capital", "region", "currency", "demonym", "domain", "calling_code", "anthem"),
           ("symbol", "atomic_number", "discoverer", "discovery_year"), _SETTLED)  # fmt: skip
_GROUP_SHARES = (0.5, 0.2, 0.1, 0.2)
_MIXED = 0.15  # share of lessons over all relations
_ONE_RELATION = 0.4  # share of lessons whose statements are all of one relation
_SORTS = {"otherwise": 0.4, "new": 0.35, "known": 0.25}
_COUNTS = (1, 2, 3, 4, 6, 8, 8, 8, 8, 10, 12, 16)  # statements; drawn
_FORMS = {"lines": 0.55, "message": 0.2, "document": 0.25}
_IN_PROSE = 0.2  # share of texts whose statements stand between sentences of prose
_BY_HEART = 0.08  # share of lessons that end with a fact that the text does not tell
_PROSE_TOKENS = (150, 500)


@dataclass(frozen=True, slots=True)
class _Text:
    """Statements as one text, what they tell, and a known fact of another subject."""

    text: str
    told: list[AskedFact]
    untold: AskedFact


class OpenBook:
    """Lessons of facts with their text."""

    def __init__(self, source: TextSource) -> None:
        """Raises ConfigError for a pack whose facts are never asked."""
        self._source = source
        self._facts: dict[str, list[AskedFact]] = {}
        for fact in material.asked_facts(source):
            self._facts.setdefault(fact.relation, []).append(fact)
        if not self._facts:
            raise ConfigError("the pack asks for no fact in a trained wording, of which lessons are made")
        self._answers = {name: sorted({fact.answer for fact in facts}) for name, facts in self._facts.items()}

    def lesson(self, draw: Random) -> Lesson:
        """A text and one to four questions, the last of them about something else now and then."""
        made = self._text(draw)
        asked = draw.sample(made.told, min(len(made.told), draw.choice((1, 1, 2, 3, 4))))
        if draw.random() < _BY_HEART:
            asked[-1] = made.untold
        form = draw.choices(list(_FORMS), list(_FORMS.values()))[0]
        if form == "lines":
            turns = [asked_line(fact, fact.answer, draw) for fact in asked]
            turns[0] = f"{made.text}\n{turns[0][0]}", turns[0][1]
            return turns_of_text("open_book", turns)
        questions = [phrases()[fact.relation].question(draw, fact.subject) for fact in asked]
        lead = ""
        if form == "document":
            lead = " "  # an answer about a document goes on with a space, as in rows of recall
        else:
            questions[0] = draw.choice(PASTE).format(p=made.text, q=questions[0])
        messages = []
        for question, fact in zip(questions, asked, strict=True):
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": lead + fact.answer}]
        return conversation("open_book", messages, document=made.text if form == "document" else "")

    def _text(self, draw: Random) -> _Text:
        relations = self._relations(draw)
        told: dict[tuple[str, str], AskedFact] = {}
        for _ in range(draw.choice(_COUNTS)):
            fact = self._told(draw.choice(relations), draw)
            told.setdefault((fact.subject, fact.relation), fact)
        facts = list(told.values())
        subjects = {fact.subject for fact in facts}
        untold = self._by_heart(relations, subjects, draw) or facts[-1]
        lines = [phrases()[fact.relation].statement(draw, fact.subject, fact.answer) for fact in facts]
        text = None
        if draw.random() < _IN_PROSE:
            ground = grounds.prose(draw, self._source, draw.randint(*_PROSE_TOKENS))
            text = planted(ground, lines, draw)
        return _Text(text or draw.choice(("\n", "\n", "\n", " ")).join(lines), facts, untold)

    def _relations(self, draw: Random) -> list[str]:
        """What a text tells of."""
        if draw.random() < _MIXED:
            return list(self._facts)
        group = draw.choices(_GROUPS, _GROUP_SHARES)[0]
        found = [name for name in group if name in self._facts] or list(self._facts)
        return [draw.choice(found)] if draw.random() < _ONE_RELATION else found

    def _told(self, relation: str, draw: Random) -> AskedFact:
        sort = draw.choices(list(_SORTS), list(_SORTS.values()))[0]
        fact = draw.choice(self._facts[relation])
        if sort == "known":
            return fact
        if sort == "new" and relation not in _SETTLED:
            return AskedFact(new_name(draw), relation, self._answer(relation, draw))
        return AskedFact(fact.subject, relation, self._answer(relation, draw))

    def _answer(self, relation: str, draw: Random) -> str:
        """One of the relation's kind: made up for towns, else that of any subject."""
        maker = NameMaker(draw, lambda _: False)
        if relation == "river":
            return maker.name(2)
        if relation == "founder":
            return f"{maker.name(2)} {maker.name(2)}"
        return draw.choice(TRADES if relation == "trade" else self._answers[relation])

    def _by_heart(self, relations: list[str], subjects: set[str], draw: Random) -> AskedFact | None:
        found = draw.choice(self._facts[draw.choice(relations)])
        return None if found.subject in subjects else found


def new_name(draw: Random) -> str:
    """A name of two or four syllables that no text holds: towns of `octavo.data.facts` have three."""
    return NameMaker(draw, lambda _: False).name(draw.choice((2, 4)))
