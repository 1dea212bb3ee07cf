"""Composed tasks of many seeds, verified, apart from held-out ones, none of them twice.

Covers: batches, what is left out and counted. Does not cover: the file (octavo.data.tasks.javascript.write).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from octavo.config.errors import UsageError
from octavo.data.programs.apart import Problems, nearest, references
from octavo.data.programs.compose import candidate, kind_of
from octavo.data.programs.structure import canonical
from octavo.data.programs.verify import ALONE, LIMITS, verified
from octavo.data.tasks.javascript.task import Kind, Task
from octavo.sandbox import Sandbox

_BATCH = 40


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was left out, by reason, and how near tasks came to held-out families: for each family the number of tasks
    of whose results it gives at least half, but not all."""

    left_out: Counter[str] = field(default_factory=Counter)
    near: Counter[str] = field(default_factory=Counter)
    structures: set[str] = field(default_factory=set)


def composed(
    number: int,
    *,
    seed_from: int = 0,
    kind: Kind | None = None,
    problems: Sequence[Path] = (),
    tally: Tally | None = None,
) -> Iterator[Task]:
    """`number` tasks from seed `seed_from` on, of `kind` alone if it is given; seeds whose task is not kept are passed
    over, and of tests' seeds those whose structure comes to the same as one that was asked. problems: files of problems
    held out. Raises UsageError for fewer than one task."""
    if number < 1:
        raise UsageError(f"composed is {number}; it must be at least 1")
    tally, guarded = tally or Tally(), Problems(problems)
    told: set[str] = set()
    asked: set[str] = set()
    with ExitStack() as stack:
        together, alone = (stack.enter_context(Sandbox(limits)) for limits in (LIMITS, ALONE))
        held = references(together)
        for first in count(seed_from, _BATCH):
            seeds = range(first, first + _BATCH)
            made = list(verified([candidate(seed, kind or kind_of(seed)) for seed in seeds], together, alone))
            tally.left_out["no wrong function fails"] += _BATCH - len(made)
            for task, (family, share) in zip(made, nearest(made, held, together), strict=True):
                text = f"{task.instruction}\n{task.signature}"
                reason = "held-out family" if share == 1.0 else "held-out problem" if guarded.holds(task) else ""
                reason = reason or ("told before" if text in told else "")
                form = canonical(task.family)
                reason = reason or ("asked before" if task.held_out and form in asked else "")
                if reason:
                    tally.left_out[reason] += 1
                    continue
                told.add(text)
                asked.add(form)
                tally.structures.add(task.family)
                if share >= 0.5:
                    tally.near[family] += 1
                yield task
                number -= 1
                if number == 0:
                    return
