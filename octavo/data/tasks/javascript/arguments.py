"""Arguments of functions by kind: how they are called and how a value is drawn.

Covers: numbers, lists, words, texts, matrices, intervals, records, objects, as JSON values, which are JavaScript
literals too. The first draws of a kind are the small cases: empty, one element.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

_WORDS = (
    "apple", "river", "stone", "cloud", "green", "light", "paper", "ant", "bee", "cat", "dog", "moon", "tree", "salt",
    "level", "noon", "radar", "civic", "window", "garden", "silver", "yellow", "orange", "market", "teacher", "ocean",
    "a", "is", "on", "the", "sun", "kayak", "mirror",
)  # fmt: skip
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 23, 41, 47, 53, 61, 79, 97, 101, 127, 149, 191)
_CITIES = ("Oslo", "Rome", "Lima", "Kyoto")
_PEOPLE = ("Ann", "Bo", "Cy", "Dee", "Eve", "Finn", "Gus", "Hal")

NAMES: dict[str, tuple[str, ...]] = {
    "ints": ("numbers", "list", "values", "items", "nums"),
    "sorted": ("numbers", "list", "values", "items", "nums"),
    "few": ("numbers", "list", "values", "items", "nums"),
    "naturals": ("numbers", "list", "values", "items", "nums"),
    "nested": ("nested", "tree", "lists"),
    "int": ("n", "number", "num", "target"),
    "natural": ("n", "number", "num", "value"),
    "multiple": ("n", "number", "num", "value"),
    "maybe_prime": ("n", "number", "num", "value"),
    "small": ("n", "number", "num", "count"),
    "text": ("text", "str", "s", "input"),
    "phrase": ("text", "str", "s", "input"),
    "letters": ("text", "str", "s", "input"),
    "runs": ("code", "packed", "encoded"),
    "brackets": ("text", "str", "s", "input"),
    "camel": ("name", "label", "id"),
    "words": ("words", "names", "strings", "tokens"),
    "matrix": ("matrix", "grid", "rows", "table"),
    "intervals": ("intervals", "ranges", "spans"),
    "records": ("people", "users", "records", "rows"),
    "counts": ("counts", "totals", "scores", "stock"),
    "deep": ("object", "data", "config"),
    "path": ("path", "route", "keys"),
}
"""By kind, what an argument may be called; kinds that share names share them in one call too."""


def _ints(draw: Random, size: int) -> list[int]:
    return [draw.randint(-12, 40) for _ in range(size)]


def _phrase(draw: Random, size: int) -> str:
    return " ".join(draw.choice(_WORDS) for _ in range(max(1, size // 2)))


def _text(draw: Random, size: int) -> str:
    half = _phrase(draw, size)
    return draw.choice((half, half.title(), half + half[::-1], half[::-1].upper() + ", " + half, half + "!"))


def _brackets(draw: Random, size: int) -> str:
    text = ""
    for _ in range(size):
        pair = draw.choice(("()", "[]", "{}"))
        text = draw.choice((text + pair, pair[0] + text + pair[1], text + "x"))
    if text and draw.random() < 0.5:
        at = draw.randrange(len(text))
        text = draw.choice((text[:at] + text[at + 1 :], text[:at] + draw.choice("()[]{}") + text[at:]))
    return text


def _intervals(draw: Random, size: int) -> list[list[int]]:
    starts = [draw.randint(0, 30) for _ in range(size)]
    return [[start, start + draw.randint(1, 8)] for start in starts]


def _records(draw: Random, size: int) -> list[dict[str, Any]]:
    people = draw.sample(_PEOPLE, min(size, len(_PEOPLE)))
    return [{"name": name, "age": draw.randint(18, 70), "city": draw.choice(_CITIES)} for name in people]


def _matrix(draw: Random, size: int) -> list[list[int]]:
    width = draw.randint(1, 4)
    return [[draw.randint(0, 9) for _ in range(width)] for _ in range(max(1, min(size, 4)))]


def _nested(draw: Random, size: int) -> list[Any]:
    return [draw.randint(0, 20) if draw.random() < 0.6 else _nested(draw, size // 2) for _ in range(min(size, 5))]


def _deep(draw: Random, size: int) -> dict[str, Any]:
    leaf: Any = draw.randint(1, 50)
    for key in "abc"[: draw.randint(1, 3)][::-1]:
        leaf = {key: leaf, draw.choice("xyz"): draw.randint(1, 9)}
    return leaf


def _runs(draw: Random, size: int) -> str:
    return "".join(draw.choice("abcxyz") + str(draw.randint(1, 12)) for _ in range(min(size, 4)))


def _camel(draw: Random, size: int) -> str:
    words = [draw.choice(_WORDS) for _ in range(max(1, min(size, 4)))]
    return words[0] + "".join(word.title() for word in words[1:])


KINDS: dict[str, Callable[[Random, int], Any]] = {
    "ints": _ints,
    "sorted": lambda draw, size: sorted(set(_ints(draw, size))),
    "few": lambda draw, size: [draw.randint(1, 4) for _ in range(size)],
    "multiple": lambda draw, size: draw.randint(1, 20) * draw.choice((2, 3, 6, 12)),
    "maybe_prime": lambda draw, size: draw.choice((draw.randint(0, 200), draw.choice(_PRIMES))),
    "naturals": lambda draw, size: [draw.randint(1, 12) * draw.choice((1, 2, 6)) for _ in range(max(1, size // 2))],
    "nested": _nested,
    "int": lambda draw, size: draw.randint(-12, 40),
    "natural": lambda draw, size: draw.choice((size + 1, draw.randint(2, 30), draw.randint(10, 999))),
    "small": lambda draw, size: draw.choice((size, draw.randint(0, 10))),
    "text": _text,
    "phrase": _phrase,
    "letters": lambda draw, size: "".join(draw.choice("aabbcd") for _ in range(size)),
    "runs": _runs,
    "brackets": _brackets,
    "camel": _camel,
    "words": lambda draw, size: [draw.choice(_WORDS) for _ in range(size)],
    "matrix": _matrix,
    "intervals": _intervals,
    "records": _records,
    "counts": lambda draw, size: {key: draw.randint(0, 9) for key in draw.sample("abcdefg", min(size, 5))},
    "deep": _deep,
    "path": lambda draw, size: draw.choice(("a", "a.b", "a.b", "a.b.c", "a.b.c", "b", "a.c")),
}
"""By kind, a value drawn at a size from 0."""


def arguments(kinds: tuple[str, ...], draw: Random, size: int) -> list[Any]:
    """One value for each kind, in order; texts and lists of about `size` elements."""
    return [KINDS[kind](draw, size) for kind in kinds]
