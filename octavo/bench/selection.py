"""Which cases a run is made of, and in which order.

Covers: finding the cases of all operations, choosing by operation, name, size and device. Does not cover: running them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Literal

from octavo.bench import cases
from octavo.bench.case import Case
from octavo.bench.record import BenchError
from octavo.config.errors import UsageError

Key = tuple[str, str, str]  # op, name, size: what a case is called across processes
Size = Literal["tiny", "full", "all"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure: empty `ops` or `names` mean all; with `check_only` nothing is timed."""

    device: Literal["cpu", "cuda"]
    ops: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    size: Size = "full"
    check_only: bool = False
    seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def times(self, case: Case) -> bool:
        """Whether `case` is timed in this run, not only checked."""
        return case.size == "full" and not self.check_only


def key(case: Case) -> Key:
    """What `case` is called."""
    return case.op, case.name, case.size


def all_cases() -> list[Case]:
    """The cases of every module of `octavo.bench.cases`; BenchError where two have one name."""
    found: list[Case] = []
    for module in sorted(module.name for module in pkgutil.iter_modules(cases.__path__)):
        found += import_module(f"{cases.__name__}.{module}").cases()
    names = [key(case) for case in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BenchError(f"two cases are called {' '.join(twice)}")
    return found


def select(plan: Plan, among: Iterable[Case] | None = None) -> list[Case]:
    """The cases of `plan`. Timed runs take headline cases first and tiny ones last, so that a budget that ends early
    costs the least; checks take tiny ones first. UsageError for names that no case has, and for an empty choice."""
    found = list(all_cases() if among is None else among)
    _known("ops", plan.ops, {case.op for case in found})
    _known("cases", plan.names, {case.name for case in found})
    chosen = [
        case
        for case in found
        if (not plan.ops or case.op in plan.ops)
        and (not plan.names or case.name in plan.names)
        and plan.size in (case.size, "all")
        and (case.size == "tiny" or plan.device in case.devices)
    ]
    if not chosen:
        raise UsageError(f"no case of size {plan.size} runs on {plan.device} among those asked for")
    if plan.check_only:
        return sorted(chosen, key=lambda case: case.size == "full")
    return sorted(chosen, key=lambda case: (case.size == "tiny", case.headline is None))


def _known(what: str, asked: tuple[str, ...], there: set[str]) -> None:
    for name in asked:
        if name not in there:
            raise UsageError(f"{what}: {name!r} is unknown; known are {', '.join(sorted(there)) or 'none'}")
