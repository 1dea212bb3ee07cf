"""Running composed tasks, many in one program.

Covers: every answer gives what Python gave, and one of its mutants does not. Does not cover: making tasks (`compose`).
Answers of one program share its built-ins, which none of them changes; each is a function scope of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from octavo.config.errors import SandboxError
from octavo.data.programs.compose import Candidate, finished
from octavo.data.tasks.javascript.judge import Test, passed, program
from octavo.data.tasks.javascript.task import Task
from octavo.sandbox import Limits, Outcome, Sandbox, Status

LIMITS = Limits(seconds=10.0, result_chars=1 << 22)
ALONE = Limits(seconds=0.5)


def verified(made: Sequence[Candidate], sandbox: Sandbox, alone: Sandbox) -> Iterator[Task]:
    """The tasks of `made` whose tests tell them from a wrong function, in order.

    sandbox: for many answers at once. alone: for one wrong function, which may not end. Raises SandboxError for an
    answer that does not give what Python gives.
    """
    sources = [one.task.source for one in made]
    right = _together(sources, [one.task.tests for one in made], sandbox)
    if right is None:
        raise SandboxError(f"the {len(made)} answers from {made[0].task.id} did not run together")
    for one, results in zip(made, right, strict=True):
        if not _same(results, one.task.tests):
            raise SandboxError(f"{one.task.id} ({one.task.family}, {one.task.form}) gives {results}\n{one.task.source}")
    wrong = [(place, source) for place, one in enumerate(made) for source in one.wrong]
    ends = [(place, source) for place, source in wrong if "while (" not in source]
    tests = [made[place].task.tests for place, _ in ends]
    told = _together([source for _, source in ends], tests, sandbox)
    broken: dict[int, str] = {}
    for number, (place, source) in enumerate(ends if told is not None else ()):
        if not _same((told or [])[number], made[place].task.tests):
            broken.setdefault(place, source)
    for place, source in wrong:
        if place not in broken and (told is None or "while (" in source):
            outcome = alone.run(program(source, [call for call, _ in made[place].task.tests]))
            if outcome.status in (Status.OK, Status.ERROR) and not passed(outcome, made[place].task.tests):
                broken[place] = source
    yield from (finished(one, broken[place]) for place, one in enumerate(made) if place in broken)


def _together(sources: Sequence[str], tests: Sequence[Sequence[Test]], sandbox: Sandbox) -> list[Any] | None:
    """The results of every source's calls, None for one that throws; None for all where the program does not end."""
    parts = (
        "(() => { try {\n"
        + source
        + "return ["
        + ",\n".join(call for call, _ in some)
        + "];\n} catch (e) { return null; } })()"
        for source, some in zip(sources, tests, strict=True)
    )
    outcome = sandbox.run("[\n" + ",\n".join(parts) + "\n]")
    return outcome.value if outcome.status is Status.OK else None


def _same(results: Any, tests: Sequence[Test]) -> bool:
    """The results are those of the tests."""
    made = Outcome(status=Status.OK, result=json.dumps(results))
    return passed(made, tests)
