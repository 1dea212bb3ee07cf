"""Which structures of programs come to the same.

Covers: the head of a part's key; a structure's canonical form, by which programs are kept for tests: no argument marks
and counts, a rule for itself and its opposite, parts in one order where their order does not matter, one spelling of
what can be spelt in two ways. Does not cover: drawing programs (`chain`). It may hold two structures for one that are
not quite the same; that keeps a few more apart from training than would have to be.
"""

from __future__ import annotations

import re

_MARK = re.compile(r":a+(?![a-z])")
_HEAD = re.compile(r"[ (:]")
_RULES = {
    "odd": "even", "notdiv": "div", "out": "in", "lacks": "contains", "not": "equal", "shorter": "longer",
    "gt": "compared", "lt": "compared", "ge": "compared", "le": "compared", "positive": "compared",
    "negative": "compared",
}  # fmt: skip
_SOURCES = {
    "digits back": ("digits", "reverse"), "multiples": ("from", "map(times)"), "from 0": ("from",), "from 1": ("from",),
    "matrix cells": ("lists all",), "matrix row sums": ("lists sums",),
}  # fmt: skip
_CHANGES = {"affine": ("times", "minus"), "distance": ("minus", "abs"), "first": ("head",)}
_ENDS = {
    ("distinct", "count"): "different", ("map(length)", "sum"): "total length", ("sort up", "last"): "max",
    ("sort down", "last"): "min", ("running tops", "last"): "max", ("running lows", "last"): "min",
    ("running sums", "last"): "sum",
}  # fmt: skip
_TURNED = {"first": "last", "last": "first"}
_NO_ORDER = (
    "sum", "product", "count", "any", "all", "max", "min", "spread", "frequencies", "different", "total", "best",
)  # fmt: skip
_NO_REPEATS = ("any", "all", "max", "min", "spread", "different")
_PLACED = ("reverse", "sort", "every", "odd", "skip", "last", "first")


def head(key: str) -> str:
    """A key's first word, up to a space, a bracket or a mark."""
    return _HEAD.split(key, maxsplit=1)[0]


def canonical(structure: str) -> str:
    """The same text for structures that come to the same."""
    first, *middle, last = _MARK.sub("", structure).split(" > ")
    source, *parts = _SOURCES.get(first, (first,))
    parts += [made for key in middle for made in _stage(key)]
    ending = _ending(last)
    while True:
        before = (parts, ending)
        parts = _needed(_paired(parts), ending)
        parts, ending = _ended(parts, ending)
        if (parts, ending) == before:
            return " > ".join((source, *parts, ending))


def _arguments(key: str) -> list[str]:
    """What stands in the outer brackets of a key, parted at its commas."""
    made, depth = [""], 0
    for sign in key.partition("(")[2][:-1]:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "," and not depth:
            made.append("")
        else:
            made[-1] += sign
    return made


def _rule(key: str) -> str:
    """A rule, the same for its opposite."""
    name = head(key)
    if name in ("and", "or"):
        return _both(*_arguments(key))
    if name == "field":
        return f"field({_rule(_arguments(key)[0])})"
    return _RULES.get(key, key)


def _both(*rules: str) -> str:
    """Several rules that are joined."""
    found: set[str] = set()
    for rule in rules:
        found.update(_arguments(rule) if rule.startswith("both(") else (_rule(rule),))
    return f"both({','.join(sorted(found))})" if len(found) > 1 else found.pop()


def _stage(key: str) -> list[str]:
    """The stages that a stage is."""
    name = head(key)
    if name in ("keep", "drop"):
        return [f"keep({_rule(_arguments(key)[0])})"]
    if name in ("until", "first") and "(" in key:
        return [f"{name}({_rule(_arguments(key)[0])})"]
    if name == "map":
        return [f"map({change})" for change in _change(_arguments(key)[0])]
    return ["every" if name == "every" else key]


def _change(key: str) -> tuple[str, ...]:
    """The changes that a change is."""
    name = head(key)
    if name == "if":
        test, *changes = _arguments(key)
        return (f"if({','.join((_rule(test), *sorted(changes)))})",)
    if name == "label":
        return (f"label({','.join(map(_rule, _arguments(key)))})",)
    return _CHANGES.get(key, (key,))


def _ending(key: str) -> str:
    """An ending, its rules in their canonical form."""
    if "(" not in key:
        return "join" if head(key) == "join" else key
    name, given = key.partition("(")[0], _arguments(key)
    if name == "ladder":
        cases = [one.rpartition(":") for one in given]
        return f"ladder({','.join(f'{_rule(test)}:{made}' if test else made for test, _, made in cases)})"
    return f"{name}({','.join((_rule(given[0]), *sorted(given[1:])))})"


def _paired(parts: list[str]) -> list[str]:
    """Neighbours in one order, or in one."""
    made: list[str] = []
    for part in parts:
        made.append(part)
        while len(made) > 1 and (pair := _pair(made[-2], made[-1])) is not None:
            made[-2:] = pair
            if len(pair) > 1:
                break
    return made


def _pair(a: str, b: str) -> list[str] | None:
    """What two stages are instead; None where they stay."""
    first, second = head(a), head(b)
    if b == "map(field)" and a.startswith("keep(field("):
        return [b, f"keep({_arguments(_arguments(a)[0])[0]})"]
    if b == "map(field)" and a.startswith("sort field"):
        return [b, a.replace(" field", "")]
    if first == second == "keep":
        return [f"keep({_both(_arguments(a)[0], _arguments(b)[0])})"]
    ordering = first in ("sort", "reverse") or a.startswith("first(")
    if second == "keep" and (ordering or first == "distinct"):
        return [b, a]
    if b in ("sort up", "sort down") and ordering:
        return [b]
    if b == "reverse" and a in ("sort up", "sort down"):
        return ["sort down" if a == "sort up" else "sort up"]
    if a == "reverse" and second == "map":
        return [b, a]
    return [] if a == b == "reverse" else None


def _needed(parts: list[str], ending: str) -> list[str]:
    """The stages without those that nothing behind them looks at."""
    end = head(ending)
    order, repeats, values = end in _NO_ORDER, end in _NO_REPEATS, ending == "count"
    made: list[str] = []
    for part in reversed(parts):
        name, parted = head(part), part.startswith("first(")
        if (order and (name in ("reverse", "sort") or parted)) or (repeats and name == "distinct"):
            continue
        if values and name == "map":
            continue
        made.append(part)
        order = part in ("sort up", "sort down") or (order and (name in ("keep", "map", "distinct", "sort") or parted))
        repeats = repeats and (name in ("keep", "map", "sort", "reverse") or parted)
        values = values and name in _PLACED
    return made[::-1]


def _ended(parts: list[str], ending: str) -> tuple[list[str], str]:
    """The last stage with the ending, as one where they are."""
    name = head(ending)
    if name in ("any", "all", "count", "first", "last") and "(field(" in ending:
        test = _arguments(_arguments(ending)[0])[0]
        return [*parts, "map(field)"], f"{ending.partition('(')[0]}({test})"
    if not parts:
        return parts, ending
    last = parts[-1]
    if (last, ending) in _ENDS:
        return parts[:-1], _ENDS[last, ending]
    if last == "reverse" and (name == "streak" or (name in _TURNED and ending.startswith(f"{name}("))):
        return parts[:-1], ending if name == "streak" else ending.replace(name, _TURNED[name], 1)
    plain = ending in ("count", "last")
    if head(last) == "keep" and (plain or ending.startswith(("count(", "any(", "first(", "last("))):
        tests = _arguments(last) if plain else [*_arguments(last), *_arguments(ending)]
        return parts[:-1], f"{name}({_both(*tests)})"
    return parts, ending
