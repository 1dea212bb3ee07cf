"""Facts that are asked without the text that states them, in every trained wording.

Covers: questions of `octavo.data.facts_wordings` that are trained, answers as a word or as a trained statement. Does
not cover: held-out wordings, facts that tests alone ask, towns that are never shown: none of them is in the material.
"""

from __future__ import annotations

from random import Random

from octavo.data.facts_wordings import WORDINGS, fill
from octavo.data.lessons import material
from octavo.data.lessons.lesson import Lesson, conversation
from octavo.data.lessons.material import AskedFact
from octavo.data.prose import TextSource

_SEVERAL = 0.3  # share of lessons that go on with another fact
_SENTENCE = 0.25  # share of answers that are a sentence, if the question asks for one
_ASK_SENTENCE = (" Answer in a sentence.", " Answer with a whole sentence.", " In one sentence, please.")


class ClosedBook:
    """Lessons of facts that the corpus asks for."""

    def __init__(self, source: TextSource) -> None:
        """Raises ConfigError for a pack without facts, or whose facts are never asked."""
        self._facts = material.asked_facts(source)
        if not self._facts:
            raise material.ConfigError("the pack asks for no fact in a trained wording, of which lessons are made")

    def lesson(self, draw: Random) -> Lesson:
        """One to three questions with their answers."""
        messages = _asked(draw.choice(self._facts), draw)
        while draw.random() < _SEVERAL and len(messages) < 6:
            messages += _asked(draw.choice(self._facts), draw)
        return conversation("closed_book", messages)


def _asked(fact: AskedFact, draw: Random) -> list[dict[str, str]]:
    wording = WORDINGS[fact.relation]
    question = fill(draw.choice(wording.trained_questions), subject=fact.subject)
    answer = fact.answer
    if draw.random() < _SENTENCE:
        question += draw.choice(_ASK_SENTENCE)
        answer = fill(draw.choice(wording.trained_statements), subject=fact.subject, answer=fact.answer)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
