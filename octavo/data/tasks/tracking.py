"""Variables that are set to a value or to one another: which hold a value, and where a variable got its own.

Covers: names, chains of assignments, their statements in prose and in JavaScript, questions, answers. Does not cover:
where the assignments stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.data.tasks import lists, names
from octavo.data.tasks.authored.lines import lines
from octavo.data.tasks.fact import capital, careless
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.linked_wordings import ASSIGN_STATEMENTS, HOLDING_QUESTIONS, TRACE_QUESTIONS
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.values import Words, number
from octavo.data.tasks.wordings import Wordings

_CODE = (
    "let {x} = {v};", "const {x} = {v};", "var {x} = {v};", "{x} = {v};", "let {x} = {v}", "export const {x} = {v};",
    "const {x} = {v}; // see above",
)  # fmt: skip
# Half of the statements of test cells are in wordings of training; these are not among them, so that cells stay.
_ROWS_ALONE = Wordings((), lines("test_assign_statements"), authored=Phrasing(*lines("train_assign_more")))
_MORE = 0.4  # their share of training statements
_WORD_VALUES = 0.2  # share of chains that begin with a word instead of a number


@dataclass(frozen=True, slots=True)
class Chain:
    """names[0] is set to `value`, each later name to the one before it."""

    names: tuple[str, ...]
    value: str

    @property
    def assignments(self) -> list[tuple[str, str]]:
        """(variable, what it is set to), in order."""
        return list(zip(self.names, (self.value, *self.names), strict=False))

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """Asks which variables hold the value."""
        text = capital(HOLDING_QUESTIONS.pick(draw, held_out=held_out).format(v=self.value))
        return text if held_out else dressed(careless(text, draw), draw)

    def trace_question(self, draw: Random, *, held_out: bool = False) -> str:
        """Asks from where the last variable got its value."""
        text = TRACE_QUESTIONS.pick(draw, held_out=held_out).format(x=self.names[-1])
        return text if held_out else dressed(text, draw)

    @property
    def holders(self) -> str:
        """All names, in order: " rho, kappa"."""
        return " " + ", ".join(self.names)

    @property
    def trace(self) -> str:
        """The names before the last one, backwards, and the value: " rho, 48213"."""
        return " " + ", ".join((*reversed(self.names[:-1]), self.value))


class Variables:
    """Draws chains with names and values that differ over the whole row."""

    def __init__(self, draw: Random, words: Words, *, code: bool = False, held_out: bool = False) -> None:
        self._draw = draw
        self._words = words
        self._code = code
        self._held_out = held_out
        self._taken: set[str] = set()
        self._worded: set[str] = set()  # values that are words
        self._letters = [draw.choice("ABCDEFGHKLMNPQRSTUVWXYZ") for _ in range(4)]

    def _name(self) -> str:
        draw = self._draw
        word = draw.choice((*lists.NOUNS, *lists.THINGS, *lists.ANIMALS))
        shapes = (
            lambda: f"{draw.choice(self._letters)}{draw.randint(1, 99)}",
            lambda: names.coined(draw).lower(),
            lambda: word + draw.choice(lists.NOUNS).capitalize(),
            lambda: f"{draw.choice(lists.ADJECTIVES)}_{word}".replace("-", "_"),
            lambda: f"{word}{draw.randint(1, 9)}",
            lambda: self._words() if not self._held_out else names.coined(draw).lower(),
        )
        return draw.choice(shapes)()

    def _new(self) -> str:
        while (name := self._name()).lower() in self._taken or not name.replace("_", "").isalnum():
            pass
        self._taken.add(name.lower())
        return name

    def chain(self, length: int) -> Chain:
        """A chain of `length` variables."""
        found = tuple(self._new() for _ in range(length))
        while True:
            worded = self._draw.random() < _WORD_VALUES
            value = self._draw.choice(lists.NOUNS) if worded else number(self._draw, held_out=self._held_out)
            if value not in self._taken:
                self._taken.add(value)
                if worded:
                    self._worded.add(value)
                return Chain(found, value)

    def statement(self, name: str, value: str, *, unseen: bool = False) -> str:
        """One assignment; of code a line without its end."""
        if self._code:
            written = f'"{value}"' if value in self._worded else value
            return self._draw.choice(_CODE).format(x=name, v=written)
        more = not self._held_out and self._draw.random() < _MORE
        wordings = _ROWS_ALONE if more else ASSIGN_STATEMENTS
        return wordings.pick(self._draw, held_out=unseen).format(x=name, v=value)
