"""Whether weights are kept after reinforcement: only if they are better at what they were trained for, and at nothing
worse.

Covers: right and wrong answers before and after, the test of their difference, the verdict as JSON. Does not cover:
asking (`loop`). The prompts are those of `Prompts.dev`: trained families and wordings with seeds that no step has, so
that the sets kept for tests are still unseen when weights ship.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from octavo.evals.report import write_texts

SURE = 0.05
"""Largest chance of such a gain by luck at which it counts."""
SLACK = 0.02
"""Share of a kind's prompts that may be lost."""

Look = Mapping[str, Sequence[bool]]
"""Right or wrong by kind, prompts in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One kind: how many prompts, right before and after, how many became right and wrong, the chance of that gain."""

    asked: int
    before: int
    after: int
    gained: int
    lost: int
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """keep: the trained weights. why: in words. kinds: what it rests on."""

    keep: bool
    why: str
    kinds: Mapping[str, Compared]

    def write(self, path: Path) -> None:
        """Write the verdict as JSON, whole or not at all."""
        write_texts(path.parent, {path.name: json.dumps(asdict(self), indent=1) + "\n"})


def verdict(before: Look, after: Look) -> Verdict:
    """Compare two looks at the same prompts. Kept if one kind gained beyond luck and none lost more than two prompts in
    a hundred. Raises ValueError for looks at different prompts."""
    if {kind: len(right) for kind, right in before.items()} != {kind: len(right) for kind, right in after.items()}:
        raise ValueError("the looks before and after are at different prompts")
    kinds = {kind: compared(before[kind], after[kind]) for kind in before}
    losers = [kind for kind, one in kinds.items() if one.before - one.after > SLACK * one.asked]
    winners = [kind for kind, one in kinds.items() if one.chance <= SURE]
    if losers:
        return Verdict(keep=False, why=f"worse at {', '.join(losers)}", kinds=kinds)
    if not winners:
        return Verdict(keep=False, why="no gain beyond luck", kinds=kinds)
    return Verdict(keep=True, why=f"better at {', '.join(winners)}", kinds=kinds)


def compared(before: Sequence[bool], after: Sequence[bool]) -> Compared:
    """One kind. The chance is that of the one-sided sign test over prompts whose answer changed (McNemar's, exact)."""
    gained = sum(b < a for b, a in zip(before, after, strict=True))
    lost = sum(b > a for b, a in zip(before, after, strict=True))
    changed = gained + lost
    chance = sum(math.comb(changed, k) for k in range(gained, changed + 1)) / 2**changed
    return Compared(
        asked=len(before), before=sum(before), after=sum(after), gained=gained, lost=lost, chance=chance
    )  # fmt: skip
