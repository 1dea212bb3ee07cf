"""Many more trained wordings of facts: grammars of questions and statements for each relation.

Covers: reading them, drawing one filled in. Does not cover: the wordings of the corpus and those kept for tests
(octavo.data.facts_wordings), the facts.

The corpus shows three or four questions of a relation, of which a model learns the wording and not the question.
Lessons draw from these as well; a draw that comes near a wording kept for tests is drawn again, so that those stay
unseen. `{s}` and `{o}` are as in `facts_wordings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from octavo.data.facts_wordings import HELD_OUT_QUESTIONS, HELD_OUT_STATEMENTS, WORDINGS, fill
from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.wordings import Wordings


@dataclass(frozen=True, slots=True)
class Phrases:
    """Trained wordings of one relation; the short lists are those of the corpus."""

    questions: Wordings
    statements: Wordings

    def question(self, draw: Random, subject: str) -> str:
        """A question for the answer."""
        return fill(self.questions.pick(draw), subject=subject)

    def statement(self, draw: Random, subject: str, answer: str) -> str:
        """A sentence that tells the answer."""
        return fill(self.statements.pick(draw), subject=subject, answer=answer)

    def ending(self, draw: Random, subject: str, answer: str) -> tuple[str, str]:
        """A statement parted before its answer: the words that lead to it, which name the subject, and the answer."""
        while not (parts := self.statements.pick(draw).partition("{o}"))[0].count("{s}"):
            pass
        # The answer's first letter decides between "a" and "an" before it.
        head = fill(parts[0] + "{o}", subject=subject, answer=answer).removesuffix(answer)
        return head.rstrip(" "), " " * (len(head) - len(head.rstrip(" "))) + answer


@cache
def phrases() -> Mapping[str, Phrases]:
    """The wordings of every relation."""
    asked, said = sections("train_triple_questions"), sections("train_triple_statements")
    return {
        name: Phrases(
            Wordings(one.trained_questions, one.questions[-HELD_OUT_QUESTIONS:], authored=Phrasing(*asked[name])),
            Wordings(one.trained_statements, one.statements[-HELD_OUT_STATEMENTS:], authored=Phrasing(*said[name])),
        )
        for name, one in WORDINGS.items()
    }


def sections(name: str) -> dict[str, list[str]]:
    """The templates of an authored file by relation; a line `= relation` begins each."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines(name):
        if line.startswith("= "):
            current = found.setdefault(line.removeprefix("= "), [])
        else:
            current.append(line)
    return found
