"""JavaScript problems and whether an answer solves one.

Covers: problems of our generators (held-out seeds, or a file of their rows), HumanEval-X rows (`console.assert`
counted, references that fail left out), cutting an answer at the function's end, judging. Does not cover: asking a
model (`javascript_run`). A HumanEval-X program shares its context with the assertions; JSON and console cannot be
replaced in it, and exactly as many assertions must be made as by the reference. Results of our own tests are compared
outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config.errors import UsageError
from octavo.data.heldout import read_rows
from octavo.data.programs.write import composed as composed_tasks
from octavo.data.tasks.javascript.judge import Test, passed, program
from octavo.data.tasks.javascript.task import TEST_SEEDS, Task, build
from octavo.sandbox import Outcome, Sandbox, Status

STOP = "\n}"
"""The function's end: a brace at the beginning of a line. The stop string of completions."""

_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something to program.

    prompt: comments and the function's first line, to be gone on with. question: the same as a message. group: what
    shares are counted by. Solved by the results of `tests`, or, where `assertions` is not None, by that many assertions
    of `test_source` that all hold. reference: the rest of the function, from the source of the problem.
    """

    id: str
    group: str
    prompt: str
    question: str
    reference: str
    tests: tuple[Test, ...] = ()
    test_source: str = ""
    assertions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One answer, run: `ran` without error or limit, `solved`. status and error as the sandbox says."""

    answer: str
    solved: bool
    ran: bool
    status: str
    error: str | None


def cut(text: str) -> str:
    """A completion up to the function's end, the closing brace included where there is one."""
    body, stop, _ = text.partition(STOP)
    return body + stop + "\n" if stop else text


def code_of(reply: str) -> str:
    """The program in a reply: its first fenced block, else all of it."""
    block = _FENCE.search(reply)
    return block[1] if block else reply


def judge(problem: Problem, source: str, sandbox: Sandbox) -> Verdict:
    """Run `source`, a whole function, against the problem's tests."""
    if problem.assertions is None:
        outcome = _run(program(source, [call for call, _ in problem.tests]), sandbox)
        solved = passed(outcome, problem.tests)
    else:
        outcome = _run(f"{source}\n{problem.test_source}", sandbox)
        solved = outcome.status is Status.OK and outcome.failed == 0 and outcome.asserted == problem.assertions
    return Verdict(
        answer=source, solved=solved, ran=outcome.status is Status.OK, status=str(outcome.status), error=outcome.error
    )  # fmt: skip


def _run(source: str, sandbox: Sandbox) -> Outcome:
    """What came of a program; text that the sandbox takes for none is a program with an error."""
    try:
        return sandbox.run(source)
    except UsageError as error:
        return Outcome(status=Status.ERROR, error=str(error))


def generated(count: int, sandbox: Sandbox, *, first: int = TEST_SEEDS) -> list[Problem]:
    """`count` problems of our generator from seed `first`: trained and held-out families in turn."""
    return [of_task(build(seed, sandbox)) for seed in range(first, first + count)]


def composed(count: int, *, first: int = TEST_SEEDS) -> list[Problem]:
    """`count` composed programs (octavo.data.programs) from seed `first`, of structures that training never sees,
    though it sees all of their parts."""
    return [of_task(task) for task in composed_tasks(count, seed_from=first, kind="write")]


def asked(count: int, sandbox: Sandbox) -> list[Problem]:
    """What is asked where no file is named: `count` problems of both kinds of families, and half as many composed."""
    return generated(count, sandbox) + (composed(count // 2) if count > 1 else [])


def of_task(task: Task) -> Problem:
    """A problem of a task that is to be written."""
    return Problem(
        id=task.id, group=_group(task.id, task.held_out), prompt=task.prompt,
        question=_question(task.prompt), reference=task.answer, tests=task.tests,
    )  # fmt: skip


def load(path: Path, sandbox: Sandbox) -> tuple[list[Problem], list[str]]:
    """Problems of a file of JSON lines, and the ids of those left out since their own reference does not solve them.

    Rows are `Task`s of the kind write, or HumanEval-X rows: task_id, prompt, canonical_solution, test. Raises
    UsageError naming the line for anything else.
    """
    if not path.is_file():
        raise UsageError(f"tasks {str(path)!r} is no file")
    problems, failing = [], []
    for number, row in enumerate(_rows(path), 1):
        try:
            problem = _human_eval(row, sandbox) if "canonical_solution" in row else _own(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(f"{path}:{number}: no task of ours to write and no HumanEval-X row: {error!r}") from None
        good = judge(problem, problem.prompt + problem.reference, sandbox).solved
        problems.append(problem) if good else failing.append(problem.id)
    if not problems:
        raise UsageError(f"tasks {str(path)!r} has no row whose reference solves it")
    return problems, failing


def _rows(path: Path) -> Iterable[Any]:
    try:
        yield from read_rows(path)
    except (ValueError, EOFError) as error:
        raise UsageError(f"tasks {str(path)!r} is not JSON lines: {error}") from None


def _own(row: dict[str, Any]) -> Problem:
    if row["kind"] != "write":
        raise ValueError(f"kind {row['kind']!r}")
    tests: Sequence[Sequence[str]] = row["tests"]
    return Problem(
        id=row["id"], group=_group(row["id"], row["held_out"]), prompt=row["prompt"],
        question=_question(row["prompt"]), reference=row["answer"],
        tests=tuple((call, result) for call, result in tests),
    )  # fmt: skip


def _group(name: str, held_out: bool) -> str:
    """What a task of ours is counted by."""
    if "/composed/" in name:
        return "composed" if held_out else "composed, known"
    return "held-out family" if held_out else "known family"


def _human_eval(row: dict[str, Any], sandbox: Sandbox) -> Problem:
    """A problem that asks for as many assertions as its reference makes, at least one."""
    reference = row["prompt"] + row["canonical_solution"]
    made = sandbox.run(f"{reference}\n{row['test']}").asserted
    return Problem(
        id=row["task_id"], group="HumanEval-X", prompt=row["prompt"], question=_question(row["prompt"]),
        reference=row["canonical_solution"], test_source=row["test"], assertions=max(made, 1),
    )  # fmt: skip


def _question(prompt: str) -> str:
    return f"Write this JavaScript function. Answer with the whole function.\n\n{prompt.rstrip()}\n}}"
