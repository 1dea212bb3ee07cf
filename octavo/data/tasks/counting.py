"""How often something is mentioned: short sentences that name it, spread over a text, and the question for the number.

Covers: things, sentences, questions, the answer in digits. Does not cover: where the sentences stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.data.tasks import names
from octavo.data.tasks.fact import FactBook, capital, careless
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.linked_wordings import COUNT_QUESTIONS, SEEN_STATEMENTS

MOST = 8


@dataclass(frozen=True, slots=True)
class Tally:
    """A thing that nothing else in the row speaks of, and the sentences that name it."""

    thing: str
    sentences: tuple[str, ...]
    unseen: bool = False

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """Asks how often the thing is mentioned."""
        text = capital(COUNT_QUESTIONS.pick(draw, held_out=held_out).format(e=self.thing))
        return text if held_out else dressed(careless(text, draw), draw)


def tallies(draw: Random, book: FactBook, count: int, *, held_out: bool = False) -> list[Tally]:
    """`count` things, each named one to eight times, no name part of another's or known to `book`.

    Half of those after the first are near twins of it. unseen: half of the tallies of tests are told in wordings kept
    for tests.
    """
    found: list[names.Entity] = []
    while len(found) < count:
        near = bool(found) and draw.random() < 0.5
        entity = names.twin(found[0], draw) if near else names.entity(draw, draw.choice(("object", "person", "ship")))
        texts = [one.text.lower() for one in found]
        text = entity.text.lower()
        if book.mentions(text) or any(text in other or other in text for other in texts) or len(entity.words) < 2:
            continue
        found.append(entity)
    made = []
    for entity in found:
        unseen = held_out and draw.random() < 0.5
        sentences = (SEEN_STATEMENTS.pick(draw, held_out=unseen) for _ in range(draw.randint(1, MOST)))
        made.append(Tally(entity.text, tuple(capital(s.format(e=entity.text)) for s in sentences), unseen))
    return made
