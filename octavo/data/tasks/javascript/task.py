"""One task: drawn by its seed, run, and kept when its tests tell it from a function that is nearly right.

Covers: which families and wordings a seed may use, examples, tests, the three kinds of prompt. Does not cover: the
families, scoring (`judge`, octavo.evals).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from octavo.config.errors import SandboxError, UsageError
from octavo.data.tasks.javascript import lists, nested, numbers, objects, texts
from octavo.data.tasks.javascript.arguments import arguments
from octavo.data.tasks.javascript.family import Family, Filled, fill
from octavo.data.tasks.javascript.judge import Test, passed, program
from octavo.data.tasks.javascript.mutants import mutants
from octavo.sandbox import Sandbox, Status

FAMILIES: tuple[Family, ...] = (
    *numbers.FAMILIES, *lists.FAMILIES, *nested.FAMILIES, *texts.FAMILIES, *objects.FAMILIES,
)  # fmt: skip
TRAIN_SEEDS = 10**9
"""Training takes the seeds below this."""
TEST_SEEDS = 2 * 10**9
"""Tests take the seeds from this: even ones from the families of training, odd ones from those that it never sees."""
KINDS = ("write", "repair", "predict")
Kind = Literal["write", "repair", "predict", "finish"]

_EXAMPLES, _TESTS, _DRAWS = 3, 8, 16
_MUTANTS = 4
_SHORT = 72  # characters of an example's call
_ATTEMPTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A verified task.

    prompt: what is given. answer: what is to follow it; prompt + answer is the text to train on. kind: write (the body
    of the function, from its first line to the closing brace), repair (the whole function, a wrong one being given),
    predict (the JSON of a call's result), finish (the rest of a function whose first lines are given; composed tasks
    alone). source: the function whole. broken: the same with one change, which fails; composed tasks for training have
    it where it is shown. tests: (call, JSON of its result), of which the prompt tells none. held_out: of a family, or a
    structure, that training never sees.
    """

    id: str
    seed: int
    kind: Kind
    family: str
    form: str
    held_out: bool
    instruction: str
    signature: str
    prompt: str
    answer: str
    source: str
    broken: str
    tests: tuple[Test, ...]


def build(seed: int, sandbox: Sandbox, *, kind: Kind = "write") -> Task:
    """The task of a seed; the same one anywhere.

    Raises UsageError for a seed that is neither of training nor of tests, or an unknown kind.
    """
    test = seed >= TEST_SEEDS
    if seed < 0 or TRAIN_SEEDS <= seed < TEST_SEEDS:
        raise UsageError(f"seed {seed} is for no task: training has 0 to {TRAIN_SEEDS - 1}, tests from {TEST_SEEDS}")
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}: it is one of {', '.join(KINDS)}")
    families = [family for family in FAMILIES if family.held_out == (test and seed % 2 == 1)]
    for attempt in range(_ATTEMPTS):
        draw = Random(f"javascript/{seed}/{attempt}")
        filled = fill(draw.choice(families), draw, test=test)
        found = _verified(filled, draw, sandbox)
        if found is not None:
            return _task(seed, kind, filled, *found)
    raise SandboxError(f"JavaScript task {seed}: no function in {_ATTEMPTS} was told from a wrong one")


def _verified(filled: Filled, draw: Random, sandbox: Sandbox) -> tuple[list[Test], list[Test], str] | None:
    """Examples, tests and a function that fails them; None where the tests would let something wrong pass."""
    given = [arguments(filled.family.args, draw, min(number // 2, 7)) for number in range(_DRAWS)]
    calls = {f"{filled.name}({', '.join(_json(value) for value in values)})": values for values in given}
    source = program(filled.answer, list(calls))
    outcome = sandbox.run(source)
    if outcome.status is Status.TIMEOUT:  # references take milliseconds: the machine was busy
        outcome = sandbox.run(source)
    if outcome.status is not Status.OK:
        raise SandboxError(f"the reference of {filled.family.name} ({filled.form}) does not run: {outcome.error}")
    results = [_json(result) for result in outcome.value]
    runs = [run for run in zip(calls, results, strict=True) if "$" not in run[1]]  # JSON has no word for the others
    examples = _examples(runs, draw)
    tests = [run for run in runs if run not in examples][-_TESTS:]
    if len(examples) < _EXAMPLES or len(tests) < _TESTS // 2:
        return None
    told = [result for _, result in tests]
    echo = all(_json(calls[call][0]) == result for call, result in tests)
    if echo or max(told.count(result) for result in told) > 0.75 * len(told):
        return None  # a constant or the first argument would nearly do
    for wrong in mutants(filled.answer, draw, _MUTANTS):
        outcome = sandbox.run(program(wrong, [call for call, _ in tests]))
        if outcome.status in (Status.OK, Status.ERROR) and not passed(outcome, tests):
            return examples, tests, wrong
    return None


def _examples(runs: list[Test], draw: Random) -> list[Test]:
    """Three short calls, with different results as far as there are."""
    short = [run for run in runs if len(run[0]) <= _SHORT]
    draw.shuffle(short)
    first = {result: (call, result) for call, result in reversed(short)}
    rest = [run for run in short if run not in first.values()]
    return [*first.values(), *rest][:_EXAMPLES]


def _task(seed: int, kind: Kind, filled: Filled, examples: list[Test], tests: list[Test], broken: str) -> Task:
    lines = [filled.instruction, *(f"{call} => {result}" for call, result in examples)]
    comment = "".join(f"// {line}\n" for line in lines)
    if kind == "write":
        prompt, answer = f"{comment}{filled.signature} {{\n", filled.answer.partition("{\n")[2]
    elif kind == "repair":
        prompt, answer = f"{comment}// This one is wrong:\n{broken}// Corrected:\n", filled.answer
    else:
        call, result = min(tests, key=lambda run: (len(run[0]) > _SHORT, -len(run[0])))
        prompt, answer = f"{filled.answer}// {call} => ", result + "\n"
    return Task(
        id=f"{kind}/{seed}", seed=seed, kind=kind, family=filled.family.name, form=filled.form,
        held_out=filled.family.held_out, instruction=filled.instruction, signature=filled.signature, prompt=prompt,
        answer=answer, source=filled.answer, broken=broken, tests=tuple(tests),
    )  # fmt: skip


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
