"""The small parts of programs: arguments, drawn numbers, rules that a value keeps or not, changes of a value.

Covers: the records, the scope that hands out names. Does not cover: which rules and changes there are (`rules`,
`changes`). In the JavaScript of a rule or change @ stands for the value, always a name or a field of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

Env = Mapping[str, Any]
"""Values of the function's arguments by name."""
NUMBER, WORD, CHARACTER, RECORD = "number", "word", "character", "record"
"""Kinds of the values that stages pass on."""

_ITEMS = {
    NUMBER: ("x", "n", "v", "value", "item", "num"),
    WORD: ("word", "w", "item", "entry", "s"),
    CHARACTER: ("c", "ch", "char", "letter"),
    RECORD: ("row", "entry", "record", "item", "one"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument: its name, what it is in words, and how a value of about `size` parts is drawn."""

    name: str
    about: str
    make: Callable[[Random, int], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A constant of a program: written out (`value`), or an argument (`name`). js, said: in code and in words."""

    key: str
    js: str
    said: str
    name: str | None = None
    value: Any = None

    def of(self, env: Env) -> Any:
        """Its value in a call."""
        return self.value if self.name is None else env[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition on a value. one: "is even", as said of one value. many: "that are even", of several. js, neg: the
    condition and its opposite."""

    key: str
    one: str
    many: str
    js: str
    neg: str
    run: Callable[[Any, Env], bool]

    @property
    def single(self) -> str:
        """Said of one that is named: "that is even"."""
        return self.many if self.many.startswith("whose") else f"that {self.one}"

    def code(self, x: str) -> str:
        """The condition on `x`."""
        return self.js.replace("@", x)

    def refusal(self, x: str) -> str:
        """The opposite condition on `x`."""
        return self.neg.replace("@", x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A value made of another. verb: "multiply {} by 3". noun: "the lengths of {}" or "{}, each multiplied by 3", of
    several. out: kind of what is made."""

    key: str
    verb: str
    noun: str
    js: str
    run: Callable[[Any, Env], Any]
    out: str

    def code(self, x: str) -> str:
        """The expression on `x`."""
        return self.js.replace("@", x)


@dataclass(slots=True, kw_only=True)
class Scope:
    """What a program is drawn with: the draw, its arguments so far, names that are taken. natural: numbers of the list
    at hand are never negative."""

    draw: Random
    arguments: list[Argument] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    natural: bool = False
    most_arguments: int = 3
    items: dict[str, str] = field(default_factory=dict)

    def item(self, kind: str) -> str:
        """What one value of `kind` is called in code, the same all over a program."""
        if kind not in self.items:
            self.items[kind] = self.fresh(*_ITEMS[kind])
        return self.items[kind]

    def fresh(self, *names: str) -> str:
        """One of `names` that is not taken, or the last with a number; taken from now on."""
        free = [name for name in names if name not in self.taken]
        name = (
            self.draw.choice(free)
            if free
            else next(made for n in range(2, 99) if (made := f"{names[-1]}{n}") not in self.taken)
        )
        self.taken.add(name)
        return name

    def argument(self, names: tuple[str, ...], about: str, make: Callable[[Random, int], Any]) -> str:
        """A new argument's name."""
        name = self.fresh(*names)
        self.arguments.append(Argument(name=name, about=about, make=make))
        return name

    def number(self, low: int, high: int, *names: str, lift: float = 0.12) -> Param:
        """A whole number from `low` to `high`; an argument at the chance `lift`, called one of `names`."""
        if names and len(self.arguments) in range(1, self.most_arguments) and self.draw.random() < lift:
            name = self.argument(names, "a whole number", lambda draw, size: draw.randint(low, high))
            return Param(key="arg", js=name, said=f"`{name}`", name=name)
        value = self.draw.randint(low, high)
        return Param(key="", js=str(value), said=str(value), value=value)

    def text(self, choices: str | tuple[str, ...], *names: str, lift: float = 0.1) -> Param:
        """One of `choices`; an argument at the chance `lift`."""
        if names and len(self.arguments) in range(1, self.most_arguments) and self.draw.random() < lift:
            name = self.argument(names, "a piece of text", lambda draw, size: draw.choice(choices))
            return Param(key="arg", js=name, said=f"`{name}`", name=name)
        value = self.draw.choice(choices)
        return Param(key="", js=json.dumps(value), said=json.dumps(value), value=value)


def keyed(name: str, *params: Param) -> str:
    """The key of a part: its name, and which of its constants are arguments; not their values."""
    lifted = "".join("a" if param.key else "" for param in params)
    return f"{name}{':' + lifted if lifted else ''}"


def remainder(a: int, b: int) -> int:
    """JavaScript's a % b: the sign of a."""
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def is_rule(key: str, said: str, js: str, neg: str, run: Callable) -> Rule:
    """A rule in words that follow "is" and "are"."""
    return Rule(key=key, one=f"is {said}", many=f"that are {said}", js=js, neg=neg, run=run)


def has_rule(key: str, one: str, many: str, js: str, neg: str, run: Callable) -> Rule:
    """A rule with a verb of its own."""
    return Rule(key=key, one=one, many=f"that {many}", js=js, neg=neg, run=run)


def made_change(key: str, verb: str, done: str, js: str, run: Callable, out: str = NUMBER) -> Change:
    """A change; done: "multiplied by 3", or the whole phrase with {} for what is changed."""
    noun = done if "{}" in done else f"{{}}, each {done}"
    return Change(key=key, verb=verb, noun=noun, js=js, run=run, out=out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A list of values. noun: what it is in words, of several values, of kind `kind` and called `unit` one by one.
    js: an expression, behind the lines `setup`. before, head, inside: lines before a loop over it, the loop's head with
    a place {x} for the value, lines that begin its body. fields: of records, kinds of their fields by name."""

    key: str
    kind: str
    noun: str
    unit: str
    js: str
    run: Callable[[Env], list[Any]]
    head: str
    setup: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    natural: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
