"""Running: right answers pass, tampered ones are reported, endless wrong ones do not stop the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from octavo.config.errors import SandboxError
from octavo.data.programs.compose import Candidate, candidate
from octavo.data.programs.verify import ALONE, LIMITS, verified
from octavo.data.tasks.javascript.judge import passed, program
from octavo.sandbox import Sandbox


def run(made: list[Candidate]) -> list:
    with Sandbox(LIMITS) as together, Sandbox(ALONE) as alone:
        return list(verified(made, together, alone))


def test_answers_pass_and_broken_ones_fail() -> None:
    tasks = run([candidate(seed, "repair") for seed in range(12)])
    assert len(tasks) >= 10
    with Sandbox() as sandbox:
        for task in tasks:
            calls = [call for call, _ in task.tests]
            assert passed(sandbox.run(program(task.source, calls)), task.tests)
            assert not passed(sandbox.run(program(task.broken, calls)), task.tests)


def test_an_answer_that_is_not_pythons_is_an_error() -> None:
    made = candidate(1, "write")
    bad = replace(made, task=replace(made.task, tests=((made.task.tests[0][0], '"never"'),)))
    with pytest.raises(SandboxError, match="write/composed/1 .* gives"):
        run([candidate(0, "write"), bad])


def test_wrong_functions_that_do_not_end_are_passed_over() -> None:
    made = candidate(2, "repair")
    head = made.task.source.partition("{\n")[0]
    endless, wrong = f"{head}{{\n  while (true);\n}}\n", f"{head}{{\n  return 'no';\n}}\n"
    (task,) = run([replace(made, wrong=(endless, wrong))])
    assert task.broken == wrong
    assert run([replace(made, wrong=(made.task.source,))]) == []
