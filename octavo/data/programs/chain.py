"""A program: a source, one to four stages, an ending.

Covers: drawing one, running it in Python, its structure. Does not cover: which structures come to the same
(`structure`), its words (`wording`), its code (`script`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Any

from octavo.data.programs.endings import ending
from octavo.data.programs.ladder import ladder, one_value
from octavo.data.programs.piece import CHARACTER, RECORD, WORD, Env, Scope, Source
from octavo.data.programs.sources import source
from octavo.data.programs.stages import stage
from octavo.data.programs.step import Ending, Stage
from octavo.data.programs.structure import canonical, head

HELD_OUT = 12
"""One in so many structures is kept for tests."""
_STAGES = ((0, 0.08), (1, 0.32), (2, 0.36), (3, 0.19), (4, 0.05))
_LADDERS = 0.06
_MAX_STATE = 2**53
_ONCE = (
    "sort", "reverse", "distinct", "first", "last", "skip", "every", "odd", "running", "numbered", "times", "runs",
    "until", "rising", "above",
)  # fmt: skip
_MADE = ("map", "steps", "gaps", "pair", "running", "numbered", "times")
_UNITS = {WORD: "string", CHARACTER: "character"}
"""Stages that a program has once, and those whose values are no longer those of its source, by their keys' heads; what
made values are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A program and the scope that it was drawn in, with its arguments and the names it takes."""

    source: Source
    stages: tuple[Stage, ...]
    ending: Ending
    scope: Scope

    @property
    def structure(self) -> str:
        """What it does, without the values of its constants, names, words and style."""
        return " > ".join((self.source.key, *(one.key for one in self.stages), self.ending.key))

    @property
    def canonical(self) -> str:
        """The same for structures that come to the same."""
        return canonical(self.structure)

    @property
    def held_out(self) -> bool:
        """Whether its structure is kept for tests, with all that come to the same."""
        return int.from_bytes(hashlib.blake2b(self.canonical.encode(), digest_size=8).digest()) % HELD_OUT == 0

    def run(self, env: Env) -> tuple[Any, tuple[bool, ...]]:
        """The result of a call, and for each stage whether it changed the list. Raises ValueError for a number that
        JavaScript does not count exactly."""
        now = self.source.run(env)
        moved = []
        for one in self.stages:
            made = one.run(now, env)
            moved.append(made != now)
            now = _exact(made)
        return _exact(self.ending.run(now, env)), tuple(moved)


def chain(draw: Random) -> Chain:
    """Any program."""
    scope = Scope(draw=draw)
    if draw.random() < _LADDERS:
        alone = one_value(scope)
        return Chain(source=alone, stages=(), ending=ladder(scope, alone.kind), scope=scope)
    begin = source(scope)
    scope.natural = begin.natural
    kind, unit, stages = begin.kind, begin.unit, []
    count = draw.choices([number for number, _ in _STAGES], [weight for _, weight in _STAGES])[0]
    while len(stages) < count:
        made = stage(scope, kind, begin.fields)
        name = head(made.key)
        if any(one.key == made.key or (name in _ONCE and head(one.key) == name) for one in stages):
            continue
        if stages and name in ("keep", "drop") and head(stages[-1].key) in ("keep", "drop"):
            continue
        stages.append(made)
        scope.natural = scope.natural and made.change is None and made.kind == kind and made.key not in ("steps",)
        if made.kind != kind or name in _MADE:
            unit = _UNITS.get(made.kind, "number")
        kind = made.kind
    for _ in range(40):
        end = ending(scope, kind, begin.fields, unit)
        if not _idle(end, stages) and not (kind == RECORD and end.key == "list"):
            break
    return Chain(source=begin, stages=tuple(stages), ending=end, scope=scope)


def _idle(end: Ending, stages: list[Stage]) -> bool:
    """Nothing would be left to do, or what was done would not matter."""
    if not stages:
        return end.key in ("list", "last", "count", "join bare")
    last = stages[-1].key
    ordering = last.startswith(("sort", "reverse", "first("))
    if ordering and end.key.startswith(
        ("sum", "product", "count", "any", "all", "max", "min", "spread", "frequencies", "different", "total length")
    ):
        return True
    return (last == "distinct" and end.key.startswith(("any", "all", "max", "min", "different", "spread"))) or (
        last.startswith("map") and end.key == "count"
    )


def _exact(value: Any) -> Any:
    """`value`, whose numbers JavaScript all has."""
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, int) and abs(one) >= _MAX_STATE:
            raise ValueError(f"{one} is not below 2^53")
    return value
