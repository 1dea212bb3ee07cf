"""Lists of keys and values, the keys nearly alike.

Covers: blocks of lines, keys that share all but one word or sign, questions. Does not cover: placing the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from octavo.data.tasks import lists, names, wordings
from octavo.data.tasks.fact import careless
from octavo.data.tasks.frames import dressed
from octavo.data.tasks.values import Words, value

_SORTS = (
    "number",
    "number",
    "number",
    "word",
    "word",
    "pair",
    "person",
    "place",
    "colour",
    "time",
    "money",
    "year",
    "trade",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list: the key, then `joint` and `answer` (with the space before it, if any)."""

    key: str
    joint: str
    answer: str

    def question(self, draw: Random, *, held_out: bool = False) -> str:
        """A question for the value."""
        text = wordings.KEY_QUESTIONS.pick(draw, held_out=held_out).format(k=self.key)
        return text if held_out else dressed(careless(text, draw), draw)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of a list: each is `mark`, key, joint, answer, `end`."""

    mark: str
    entries: tuple[Entry, ...]


def _keys(draw: Random, count: int, words: Words, taken: set[str]) -> list[str]:
    """`count` new keys from small pools, so that most differ from another one in a single part."""
    letters = [draw.choice("ABCDEFGHJKLMNPRSTUVWYZ") for _ in range(3)]
    first = [draw.choice(lists.ADJECTIVES) for _ in range(4)]
    second = [draw.choice((lists.THINGS, lists.ANIMALS, lists.NOUNS)[draw.randrange(3)]) for _ in range(4)]
    coins = [names.coined(draw) for _ in range(3)]
    shapes = (
        lambda: f"{draw.choice(letters)}{draw.choice(letters)}-{draw.randint(100, 9999)}",
        lambda: f"{draw.choice(first)} {draw.choice(second)}",
        lambda: f"{draw.choice(first)} {draw.choice(first)} {draw.choice(second)}",
        lambda: names.twin_word(draw.choice(coins), draw),
        lambda: f"{draw.choice(coins)} {draw.randint(1, 99)}",
        lambda: f"{draw.choice(second)}_{draw.choice(first)}",
        lambda: f"{draw.choice(lists.GIVEN)} {draw.choice(coins)}",
        lambda: words(),
        lambda: f"{draw.choice(second)} {draw.randint(1, 60)}",
        lambda: f"{draw.choice(second)}.{draw.choice(second)}.{words()}",
    )
    shape = draw.choice(shapes)
    found: list[str] = []
    for attempt in range(count * 6):
        key = shape()
        if attempt % 7 == 6:
            key = draw.choice(shapes)()
        if key.lower() not in taken:
            taken.add(key.lower())
            found.append(key)
        if len(found) == count:
            break
    return found


class Ledger:
    """Draws blocks whose keys differ over the whole row."""

    def __init__(self, draw: Random, words: Words, *, held_out: bool = False) -> None:
        self._draw = draw
        self._words = words
        self._held_out = held_out
        self._taken: set[str] = set()

    def block(self, count: int) -> Block:
        """A list of about `count` entries; all values of one sort, or mixed."""
        draw = self._draw
        sort = draw.choice(_SORTS)
        mixed = draw.random() < 0.3
        joint = draw.choice((": ", ": ", ": ", " = ", " - ", ", ", " -> ", "=", "\t"))
        mark = draw.choice(("", "", "", "- ", "* "))
        entries = []
        for key in _keys(draw, count, self._words, self._taken):
            kind = draw.choice(_SORTS) if mixed else sort
            answer = value(draw, kind, self._words, held_out=self._held_out)
            stem = joint[:-1] if joint.endswith(" ") else joint
            answer = answer if joint.endswith(" ") else answer.lstrip("£$")
            entries.append(Entry(key, stem, " " + answer if joint.endswith(" ") else answer))
        return Block(mark, tuple(entries))
