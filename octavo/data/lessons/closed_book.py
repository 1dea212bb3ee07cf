"""Facts that are asked without the text that states them, in every trained wording.

Covers: questions as lines, as the corpus and `octavo eval facts` have them, statements that are gone on with, questions
in a message; answers as a word or as a statement. Does not cover: held-out wordings, facts that tests alone ask, towns
that are never shown: none of them is in the material.
"""

from __future__ import annotations

import math
from random import Random

from octavo.config.errors import ConfigError
from octavo.data.facts_phrases import phrases
from octavo.data.lessons import material
from octavo.data.lessons.lesson import Lesson, conversation, turns_of_text
from octavo.data.lessons.material import AskedFact
from octavo.data.prose import TextSource

_FORMS = {"lines": 0.5, "statements": 0.15, "messages": 0.35}
_SEVERAL = {"lines": 0.75, "statements": 0.75, "messages": 0.3}  # share of lessons that go on with another fact
_MOST = {"lines": 8, "statements": 8, "messages": 3}
_SENTENCE = 0.25  # share of answers to a message that are a sentence, if the question asks for one
_ASK_SENTENCE = (" Answer in a sentence.", " Answer with a whole sentence.", " In one sentence, please.")


class ClosedBook:
    """Lessons of facts that the corpus asks for. Relations come by the root of how many facts they have, so that a few
    thousand airports do not crowd out the rest."""

    def __init__(self, source: TextSource) -> None:
        """Raises ConfigError for a pack without facts, or whose facts are never asked."""
        self._facts: dict[str, list[AskedFact]] = {}
        for fact in material.asked_facts(source):
            self._facts.setdefault(fact.relation, []).append(fact)
        if not self._facts:
            raise ConfigError("the pack asks for no fact in a trained wording, of which lessons are made")
        self._weights = [math.sqrt(len(facts)) for facts in self._facts.values()]

    def lesson(self, draw: Random) -> Lesson:
        """Some questions with their answers, in one of the forms."""
        form = draw.choices(list(_FORMS), list(_FORMS.values()))[0]
        facts = [self._fact(draw)]
        while len(facts) < _MOST[form] and draw.random() < _SEVERAL[form]:
            facts.append(self._fact(draw))
        if form == "lines":
            return turns_of_text("closed_book", [asked_line(fact, fact.answer, draw) for fact in facts])
        if form == "statements":
            return turns_of_text("closed_book", [_ended(fact, draw) for fact in facts])
        return conversation("closed_book", [message for fact in facts for message in _messages(fact, draw)])

    def _fact(self, draw: Random) -> AskedFact:
        return draw.choice(self._facts[draw.choices(list(self._facts), self._weights)[0]])


def asked_line(fact: AskedFact, answer: str, draw: Random) -> tuple[str, str]:
    """A question up to its answer as `octavo.data.facts.prompt` writes it, and " answer" with the end of the line."""
    return f"Question: {phrases()[fact.relation].question(draw, fact.subject)} Answer:", f" {answer}\n"


def _ended(fact: AskedFact, draw: Random) -> tuple[str, str]:
    """A statement up to its answer, and the answer."""
    head, answer = phrases()[fact.relation].ending(draw, fact.subject, fact.answer)
    return head, f"{answer}\n"


def _messages(fact: AskedFact, draw: Random) -> list[dict[str, str]]:
    wording = phrases()[fact.relation]
    question, answer = wording.question(draw, fact.subject), fact.answer
    if draw.random() < _SENTENCE:
        question += draw.choice(_ASK_SENTENCE)
        answer = wording.statement(draw, fact.subject, fact.answer)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
