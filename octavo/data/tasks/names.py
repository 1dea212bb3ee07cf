"""Entities: made-up and real people, towns, ships, companies, things, and near twins of them.

Covers: drawing an entity of any sort, changing one word or syllable of it. Does not cover: values, statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from octavo.data.tasks import lists


@dataclass(frozen=True, slots=True)
class Entity:
    """A named thing: words with the slot that each was drawn from (None: fixed), joined by single spaces."""

    words: tuple[str, ...]
    slots: tuple[str | None, ...]

    @property
    def text(self) -> str:
        """The name as it stands inside a sentence."""
        return " ".join(self.words)


def coined(draw: Random) -> str:
    """A made-up word of two to four syllables, capitalised."""
    count = draw.choice((2, 2, 2, 3, 3, 4))
    parts = [draw.choice(lists.SYLLABLE_STARTS) + draw.choice(lists.SYLLABLE_MIDDLES) for _ in range(count - 1)]
    return ("".join(parts) + draw.choice(lists.SYLLABLE_ENDS)).capitalize()


def twin_word(word: str, draw: Random) -> str:
    """`word` with another ending or another beginning: a name that is easily taken for it."""
    for _ in range(20):
        if draw.random() < 0.7 and len(word) > 4:
            new = word[: max(2, len(word) - draw.randint(2, 3))] + draw.choice(lists.SYLLABLE_ENDS)
        else:
            start = draw.choice(lists.SYLLABLE_STARTS) + draw.choice(lists.SYLLABLE_MIDDLES)
            new = start.capitalize() + word[2:].lower()
        if new != word:
            return new
    return coined(draw)


def surname(draw: Random) -> str:
    """A family name: two English-looking parts, or a made-up word."""
    if draw.random() < 0.5:
        return draw.choice(lists.SURNAME_STARTS) + draw.choice(lists.SURNAME_ENDS)
    return coined(draw)


_SLOTS: dict[str, Callable[[Random], str]] = {
    "coined": coined,
    "given": lambda draw: draw.choice(lists.GIVEN),
    "surname": surname,
    "title": lambda draw: draw.choice(lists.TITLES),
    "place": lambda draw: draw.choice(lists.PLACES),
    "adjective": lambda draw: draw.choice(lists.ADJECTIVES),
    "Adjective": lambda draw: draw.choice(lists.ADJECTIVES).capitalize(),
    "thing": lambda draw: draw.choice(lists.THINGS),
    "animal": lambda draw: draw.choice(lists.ANIMALS),
    "Animal": lambda draw: draw.choice(lists.ANIMALS).capitalize(),
    "Noun": lambda draw: draw.choice(lists.NOUNS).capitalize(),
    "trade": lambda draw: draw.choice(lists.TRADES),
    "ordinal": lambda draw: draw.choice(lists.ORDINALS),
    "container": lambda draw: draw.choice(lists.CONTAINERS),
    "Container": lambda draw: draw.choice(lists.CONTAINERS).capitalize(),
    "number": lambda draw: str(draw.randint(2, 400)),
    "Thing": lambda draw: draw.choice(lists.THINGS).capitalize(),
}
_PEOPLE = (
    "given surname", "given surname", "given surname", "given coined", "given", "title surname", "title coined",
    "title given surname", "coined", "coined surname", "given given surname", "title given",
)  # fmt: skip
_TOWNS = ("coined", "coined", "coined", "coined", "place", "=Port coined", "=New coined", "=Saint given", "surname")
_SHIPS = ("=the Adjective Animal", "=the Adjective Noun", "=the given surname", "=the coined", "=the Noun =of coined")
_COMPANIES = ("surname ending", "coined ending", "=the coined ending", "surname =and surname", "Noun =and Noun")
_OBJECTS = (
    "=the adjective thing", "=the adjective thing", "=the adjective thing", "=the ordinal thing", "=the thing",
    "container number", "Container number", "=the adjective adjective thing", "=the thing =of given",
    "=the thing =in coined", "=the thing =of =the trade", "=the adjective animal", "=the animal =of given surname",
    "=the trade =of coined", "=Project Noun", "=the adjective trade", "=the thing =by =the thing",
    "=my adjective thing",
    "=our thing",
)  # fmt: skip
SORTS: dict[str, tuple[str, ...]] = {
    "person": _PEOPLE, "town": _TOWNS, "ship": _SHIPS, "company": _COMPANIES, "object": _OBJECTS,
}  # fmt: skip
_WEIGHTED = ("person",) * 7 + ("town",) * 5 + ("ship",) * 2 + ("company",) * 2 + ("object",) * 8


def _fill(pattern: str, draw: Random) -> Entity:
    words: list[str] = []
    slots: list[str | None] = []
    for part in pattern.split():
        if part[0] == "=":
            words.append(part[1:])
            slots.append(None)
        elif part == "ending":
            words.append(draw.choice(lists.COMPANY_ENDINGS))
            slots.append(None)
        else:
            words.append(_SLOTS[part](draw))
            slots.append(part)
    return Entity(tuple(words), tuple(slots))


def entity(draw: Random, sort: str | None = None) -> Entity:
    """A new entity of `sort` ("person", "town", "ship", "company", "object"; None: any)."""
    return _fill(draw.choice(SORTS[sort or draw.choice(_WEIGHTED)]), draw)


def twin(of: Entity, draw: Random) -> Entity:
    """An entity that shares all but one word or syllable with `of`."""
    places = [i for i, slot in enumerate(of.slots) if slot is not None]
    place = draw.choice(places)
    slot = of.slots[place] or ""
    old = of.words[place]
    coins = slot in {"coined", "surname"} and draw.random() < 0.6
    new = twin_word(old, draw) if coins else _SLOTS[slot](draw)
    while new == old:
        new = _SLOTS[slot](draw)
    return Entity((*of.words[:place], new, *of.words[place + 1 :]), of.slots)


def person(draw: Random) -> str:
    """A person's name as text."""
    return entity(draw, "person").text


def town(draw: Random) -> str:
    """A town's name as text."""
    return entity(draw, "town").text
