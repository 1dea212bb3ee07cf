"""Values that arguments of composed programs take, drawn.

Covers: numbers, words, texts, records, tables. The first sizes give the small cases: empty, one element.
"""

from __future__ import annotations

from random import Random
from typing import Any

VOWELS = "aeiou"
LETTERS = "aeiorstlnmcp"
WORDS = (
    "apple",
    "river",
    "stone",
    "cloud",
    "green",
    "ant",
    "bee",
    "cat",
    "tree",
    "salt",
    "level",
    "noon",
    "lamp",
    "garden",
    "silver",
    "orange",
    "market",
    "ocean",
    "sun",
    "mirror",
    "plum",
    "echo",
    "iron",
    "rope",
    "pearl",
    "onion",
    "tent",
    "coral",
    "nest",
    "art",
    "loop",
    "map",
    "ice",
    "sense",
    "erase",
    "tart",
    "crane",
    "pilot",
    "ox",
    "ember",
)
_PLACES = ("Oslo", "Rome", "Lima", "Kyoto")
_PEOPLE = ("Ann", "Bo", "Cy", "Dee", "Eve", "Finn", "Gus", "Hal")


def draw_numbers(draw: Random, size: int) -> list[int]:
    """Whole numbers from -9 to 30, some of them repeated."""
    made: list[int] = []
    for _ in range(size):
        made.append(draw.choice(made) if made and draw.random() < 0.15 else draw.randint(-9, 30))
    return made


def draw_small(draw: Random, size: int) -> list[int]:
    """Whole numbers from 0 to 9."""
    return [draw.randint(0, 9) for _ in range(size)]


def draw_words(draw: Random, size: int) -> list[str]:
    """Words, some of them repeated."""
    made: list[str] = []
    for _ in range(size):
        made.append(draw.choice(made) if made and draw.random() < 0.15 else draw.choice(WORDS))
    return made


def draw_phrase(draw: Random, size: int) -> str:
    """One to five words, parted by single spaces."""
    return " ".join(draw_words(draw, max(1, min(size, 5))))


def draw_text(draw: Random, size: int) -> str:
    """A short text with capitals and digits in places."""
    parts = [draw.choice((word, word, word.title(), str(draw.randint(1, 99)))) for word in draw_words(draw, size // 2)]
    return draw.choice((" ", " ", "", "-")).join(parts)


def draw_letters(draw: Random, size: int) -> str:
    """Small letters of which several stand side by side."""
    return "".join(draw.choice("aabbce") * draw.choice((1, 1, 2, 3)) for _ in range(size // 2))


def draw_counts(draw: Random, size: int) -> dict[str, int]:
    """An object from words to small numbers."""
    return {word: draw.randint(0, 12) for word in draw.sample(WORDS, min(size, 5))}


def draw_matrix(draw: Random, size: int) -> list[list[int]]:
    """One to four rows of one length."""
    width = draw.randint(1, 3)
    return [[draw.randint(-3, 12) for _ in range(width)] for _ in range(max(1, min(size, 4)))]


def draw_lists(draw: Random, size: int) -> list[list[int]]:
    """Up to four lists of zero to four numbers."""
    return [draw_numbers(draw, draw.randint(0, 4)) for _ in range(min(size, 4))]


SCHEMAS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("people", "person", {"name": "person", "age": "age", "city": "place"}),
    ("products", "product", {"name": "word", "price": "price", "stock": "few"}),
    ("books", "book", {"title": "word", "pages": "price", "year": "year"}),
    ("orders", "order", {"item": "word", "amount": "few", "city": "place"}),
    ("players", "player", {"name": "person", "score": "price", "team": "team"}),
    ("tasks", "task", {"label": "word", "hours": "few", "owner": "person"}),
)
"""Records: what several and one are called, kinds of their fields by name."""
_FIELDS = {
    "person": lambda draw: draw.choice(_PEOPLE),
    "age": lambda draw: draw.randint(18, 60),
    "place": lambda draw: draw.choice(_PLACES),
    "word": lambda draw: draw.choice(WORDS),
    "price": lambda draw: draw.randint(1, 40),
    "few": lambda draw: draw.randint(0, 9),
    "year": lambda draw: draw.randint(1990, 2024),
    "team": lambda draw: draw.choice(("red", "blue", "green")),
}
TEXT_FIELDS = frozenset({"person", "place", "word", "team"})
GROUP_FIELDS = frozenset({"place", "team", "person"})


def draw_records(fields: dict[str, str], draw: Random, size: int) -> list[dict[str, Any]]:
    """Up to four records."""
    return [{name: _FIELDS[kind](draw) for name, kind in fields.items()} for _ in range(min(size, 4))]
