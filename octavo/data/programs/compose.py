"""A composed task of a seed: a program in words and in JavaScript, with examples and tests from Python.

Covers: which structures a seed may have, arguments of calls, results that tell a program from nothing at all, the kinds
of task. Does not cover: running the JavaScript (`verify`), keeping apart from held-out families (`apart`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from octavo.config.errors import SandboxError, UsageError
from octavo.data.programs.chain import Chain, chain
from octavo.data.programs.script import STYLES, body
from octavo.data.programs.wording import comment, function_name, instruction
from octavo.data.tasks.javascript.judge import Test
from octavo.data.tasks.javascript.mutants import mutants
from octavo.data.tasks.javascript.task import TEST_SEEDS, TRAIN_SEEDS, Kind, Task

KINDS: tuple[tuple[Kind, float], ...] = (("write", 0.6), ("finish", 0.2), ("repair", 0.2))
"""Kinds of composed tasks, with their shares."""
MUTANTS = 3
_CALLS, _EXAMPLES = 14, 3
_TESTS = {False: 4, True: 6}  # of training, whose file is to be small, and of tests
_SHORT, _LONG = 60, 110  # characters of an example's and of a test's call and result
_LONG_BODY, _LONG_TEXT = 620, 420
_ATTEMPTS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A task that nobody ran: `task` with an empty `broken`, and functions of which one shall fail its tests."""

    task: Task
    wrong: tuple[str, ...]


def kind_of(seed: int) -> Kind:
    """The kind of a seed's task."""
    kinds: list[Kind] = [kind for kind, _ in KINDS]
    return Random(f"composed kind/{seed}").choices(kinds, [share for _, share in KINDS])[0]


def candidate(seed: int, kind: Kind) -> Candidate:
    """The task of a seed; the same one anywhere. Seeds of tests have the structures that training never sees.

    Raises UsageError for a seed that is neither of training nor of tests.
    """
    test = seed >= TEST_SEEDS
    if seed < 0 or TRAIN_SEEDS <= seed < TEST_SEEDS:
        raise UsageError(f"seed {seed} is for no task: training has 0 to {TRAIN_SEEDS - 1}, tests from {TEST_SEEDS}")
    for attempt in range(_ATTEMPTS):
        draw = Random(f"composed/{seed}/{attempt}")
        drawn = chain(draw)
        if drawn.held_out == test:
            made = _made(drawn, seed, kind, draw, test)
            if made is not None:
                return made
    raise SandboxError(f"composed task {seed}: no program in {_ATTEMPTS} was fit")


def _made(drawn: Chain, seed: int, kind: Kind, draw: Random, test: bool) -> Candidate | None:
    """The task of a program; None where its results say too little of it, or it is too long."""
    name = drawn.scope.fresh(function_name(drawn, draw))
    runs = _runs(drawn, name, draw, _TESTS[test])
    if runs is None:
        return None
    style = draw.choice(STYLES)
    lines = body(drawn, style)
    text = instruction(drawn, draw)
    if len(lines) > _LONG_BODY or len(text) > _LONG_TEXT:
        return None
    if not all(re.search(rf"\b{one.name}\b", lines) and f"`{one.name}`" in text for one in drawn.scope.arguments):
        return None  # of a part that was drawn and given up
    names = ", ".join(one.name for one in drawn.scope.arguments)
    arrow = draw.random() < 0.2
    signature = f"const {name} = ({names}) =>" if arrow else f"function {name}({names})"
    source = f"{signature} {{\n{lines}}}\n"
    examples, tests = runs
    examples = examples[: draw.choice((3, 3, 3, 2, 2, 1, 0))]
    wrong = tuple(mutants(source, draw, MUTANTS))
    task = Task(
        id=f"{kind}/composed/{seed}",
        seed=seed,
        kind=kind,
        family=drawn.structure,
        form=style,
        held_out=test,
        instruction=text,
        signature=signature,
        prompt=comment(text, examples, draw),
        answer="",
        source=source,
        broken="",
        tests=tuple(tests),
    )
    return Candidate(task=task, wrong=wrong) if wrong else None


def _runs(drawn: Chain, name: str, draw: Random, most: int) -> tuple[list[Test], list[Test]] | None:
    """Examples and tests; None where a constant or the first argument would nearly do, or a stage does nothing."""
    runs: dict[str, str] = {}
    echoes, moved = 0, [0] * len(drawn.stages)
    for number in range(_CALLS):
        env = {one.name: one.make(draw, min(number // 2 + (number > 2), 6)) for one in drawn.scope.arguments}
        try:
            result, moves = drawn.run(env)
        except ValueError:
            return None
        values = list(env.values())
        call, told = f"{name}({', '.join(map(written, values))})", written(result)
        if len(call) + len(told) > _LONG or call in runs:
            continue
        runs[call] = told
        echoes += values[0] == result
        moved = [count + one for count, one in zip(moved, moves, strict=True)]
    results = list(runs.values())
    if len(runs) < 8 or echoes > len(runs) // 2 or min(moved, default=8) < len(runs) // 3:
        return None
    if max(map(results.count, results)) > 0.6 * len(results) or len(set(results)) < (
        2 if results[0] in ("true", "false") else 4
    ):
        return None
    examples = _examples(list(runs.items()), draw)
    tests = [run for run in runs.items() if run not in examples][-most:]
    return (examples, tests) if len(tests) >= 4 and len({result for _, result in tests}) > 1 else None


def _examples(runs: list[Test], draw: Random) -> list[Test]:
    """Short calls, with different results as far as there are."""
    short = [run for run in runs[1:] if len(run[0]) <= _SHORT]
    draw.shuffle(short)
    first = {result: (call, result) for call, result in reversed(short)}
    return list(first.values())[:_EXAMPLES]


def finished(made: Candidate, broken: str) -> Task:
    """The task with its prompt and answer, `broken` being a function that fails its tests: kept where it is shown, and
    in tasks of tests."""
    task, draw = made.task, Random(f"composed cut/{made.task.seed}")
    if task.kind == "repair":
        said = draw.choice(("// This one is wrong:", "// Wrong:", "// There is a mistake in this:"))
        prompt, answer = f"{task.prompt}{said}\n{broken}// Corrected:\n", task.source
    else:
        lines = task.source.splitlines(keepends=True)
        given = 1 if task.kind == "write" else min(len(lines) - 2, draw.randint(2, max(2, len(lines) - 3)))
        prompt, answer = task.prompt + "".join(lines[:given]), "".join(lines[given:])
    shown = broken if task.kind == "repair" or task.held_out else ""
    return replace(task, prompt=prompt, answer=answer, broken=shown)


def written(value: Any) -> str:
    """JSON, which is JavaScript too."""
    return json.dumps(value, ensure_ascii=False)
