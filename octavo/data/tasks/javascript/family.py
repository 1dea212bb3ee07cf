"""A family of tasks: one thing to compute, in several wordings and several forms of JavaScript.

Covers: the record, filling its places. Places are written @name, since JavaScript has no such sign: @f the function, @a
and @b its arguments, @r and @i names inside, @cond a condition on `x` and @what its words, and numbers and choices of
the family. Does not cover: the families (`numbers`, `lists`, `nested`, `texts`, `objects`), drawing arguments
(`arguments`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from octavo.data.tasks.javascript.arguments import NAMES

_PLACE = re.compile(r"@(\w+)")
_LETTERS = "aeiorstlnmcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What to compute.

    args: kinds of the arguments (`arguments.KINDS`). names: of the function. wordings: instructions; the last is used
    in tests only. forms: bodies by form (loop, array, recursion), indented by two. condition: "number" or "word" where
    @cond and @what are drawn. ints: ranges of numbers. choices: of which one is drawn. held_out: never in training.
    """

    name: str
    args: tuple[str, ...]
    names: tuple[str, ...]
    wordings: tuple[str, ...]
    forms: dict[str, str]
    condition: str | None = None
    ints: dict[str, tuple[int, int]] = field(default_factory=dict)
    choices: tuple[dict[str, str], ...] = ()
    held_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A family with its places filled. signature: without the opening brace. answer: the function's whole source."""

    family: Family
    form: str
    name: str
    instruction: str
    signature: str
    answer: str


def fill(family: Family, draw: Random, *, test: bool) -> Filled:
    """One wording and one form, all places drawn."""
    places = {"f": draw.choice(family.names)}
    pools: dict[str, list[str]] = {}
    for letter, kind in zip("abc", family.args, strict=False):
        pool = pools.setdefault(NAMES[kind][0], list(NAMES[kind]))
        places[letter] = pool.pop(draw.randrange(len(pool)))
    places["r"] = draw.choice(("result", "out", "answer"))
    places["i"] = draw.choice(("i", "index", "at"))
    places |= {name: str(draw.randint(*bounds)) for name, bounds in family.ints.items()}
    if family.choices:
        places |= draw.choice(family.choices)
    if family.condition is not None:
        places |= _number_test(draw) if family.condition == "number" else _word_test(draw)
    form = draw.choice(sorted(family.forms))
    wording = draw.choice(family.wordings if test else family.wordings[:-1])
    signature = f"function {places['f']}({', '.join(places[letter] for letter in 'abc'[: len(family.args)])})"
    body = _filled(family.forms[form].strip("\n"), places)
    return Filled(
        family=family, form=form, name=places["f"], instruction=_filled(wording, places), signature=signature,
        answer=f"{signature} {{\n{body}\n}}\n",
    )  # fmt: skip


def _filled(text: str, places: dict[str, str]) -> str:
    """`text` with its places filled, twice: a choice may itself name an argument."""
    for _ in range(2):
        text = _PLACE.sub(lambda match: places[match[1]], text)
    return text


def _number_test(draw: Random) -> dict[str, str]:
    k, low = draw.randint(3, 9), draw.randint(0, 12)
    high = low + draw.randint(4, 20)
    cond, what = draw.choice(
        (
            ("x % 2 === 0", "even"),
            ("x % 2 !== 0", "odd"),
            (f"x % {k} === 0", f"divisible by {k}"),
            (f"x > {low}", f"greater than {low}"),
            (f"x < {high}", f"less than {high}"),
            (f"x >= {low} && x <= {high}", f"between {low} and {high} inclusive"),
            ("x < 0", "negative"),
            ("x > 0", "positive"),
        )
    )
    return {"cond": cond, "what": what}


def _word_test(draw: Random) -> dict[str, str]:
    k, letter = draw.randint(3, 6), draw.choice(_LETTERS)
    cond, what = draw.choice(
        (
            (f"x.length > {k}", f"longer than {k} letters"),
            (f"x.length < {k}", f"shorter than {k} letters"),
            (f'x.includes("{letter}")', f'spelled with the letter "{letter}"'),
            ("x.length % 2 === 0", "of even length"),
            (f"x.length === {k}", f"exactly {k} letters long"),
        )
    )
    return {"cond": cond, "what": what}
