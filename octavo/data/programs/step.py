"""What a program consists of behind its source: stages, from one list to another, and the ending.

Covers: the records. Does not cover: which there are (`stages`, `orders`, `endings`, `tallies`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from octavo.data.programs.piece import Change, Env, Rule, Scope

Run = Callable[[list[Any], Env], list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A stage inside a loop: lines before the loop, lines in it, what the value is called behind them."""

    before: tuple[str, ...]
    lines: tuple[str, ...]
    x: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A list to a list. verb: "keep only those that are even". noun: "the even ones of {}" around the words so far.
    kind: of what comes out. js: expression around one. named: that one must be a name, since it is used twice. rule,
    change: where it keeps or changes every value by itself. flow: how it is done to a value in a loop, if it can be.
    block: lines that make a new list (second name) of a list (first). lines: the same
    where an expression alone will not do."""

    key: str
    verb: str
    noun: str
    kind: str
    js: Callable[[str], str]
    run: Run
    named: bool = False
    rule: Rule | None = None
    change: Change | None = None
    flow: Callable[[str, Scope], Flow] | None = None
    block: Callable[[str, str], list[str]] | None = None
    lines: Callable[[str, str, Scope], list[str]] | None = None


def fresh_list(js: str) -> str:
    """`js` as a list that may be changed: a copy where it is a name."""
    return js if js.endswith(")") or js.startswith("[...") else f"[...{js}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A list to a value. verb: "return their sum". noun: "the sum of {}". names: words for the function's name.
    js: expression around the list; named: that must be a name. start: lines before a loop; step: lines for a value in
    it, which may follow an `if` where there is one; result: what is returned behind it. lines: the whole body, where
    there is no list."""

    key: str
    verb: str
    noun: str
    names: tuple[str, ...]
    js: Callable[[str], str]
    run: Callable[[list[Any], Env], Any]
    named: bool = False
    start: tuple[str, ...] = ()
    step: Callable[[str], tuple[str, ...]] | None = None
    result: str = ""
    lines: tuple[str, ...] = ()
