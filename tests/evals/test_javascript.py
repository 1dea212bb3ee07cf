"""Problems and judging: references solve all of them, mutants and nonsense none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.data.programs.write import composed as composed_tasks
from octavo.data.tasks.javascript.task import TEST_SEEDS, build
from octavo.evals.javascript import asked, code_of, composed, cut, generated, judge, load
from octavo.sandbox import Limits, Sandbox

DOUBLE = {
    "task_id": "JavaScript/0", "prompt": "/* Twice n. */\nconst twice = (n) => {\n",
    "canonical_solution": "  return n * 2;\n}\n\n", "declaration": "", "example_test": "",
    "test": "const test = () => {\n  console.assert(twice(2) === 4)\n  console.assert(twice(3) === 6)\n}\ntest()\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=5)) as made:
        yield made


def test_references_score_all_and_mutants_none(sandbox: Sandbox) -> None:
    tasks = [build(seed, sandbox) for seed in range(TEST_SEEDS, TEST_SEEDS + 12)]
    problems = generated(12, sandbox)
    assert {problem.group for problem in problems} == {"known family", "held-out family"}
    right = [judge(p, p.prompt + cut(p.reference + "\nconsole.log(5)"), sandbox) for p in problems]
    assert all(verdict.solved and verdict.ran for verdict in right)
    wrong = [judge(p, task.broken, sandbox) for p, task in zip(problems, tasks, strict=True)]
    assert not any(verdict.solved for verdict in wrong)
    assert any(verdict.ran for verdict in wrong)
    for body in ("  return null;\n}\n", "", "  return undefined"):
        assert not any(judge(p, p.prompt + body, sandbox).solved for p in problems)


def test_composed_problems_are_a_third_group(sandbox: Sandbox, tmp_path: Path) -> None:
    problems = composed(6)
    assert {problem.group for problem in problems} == {"composed"}
    assert all(judge(p, p.prompt + p.reference, sandbox).solved for p in problems)
    assert not any(judge(p, p.prompt + "  return null;\n}\n", sandbox).solved for p in problems)
    assert [p.group for p in asked(4, sandbox)] == ["known family", "held-out family"] * 2 + ["composed"] * 2
    assert asked(4, sandbox)[4:] == problems[:2]
    assert [p.group for p in asked(1, sandbox)] == ["known family"]
    taught = next(composed_tasks(1, kind="write"))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(asdict(taught)) + "\n", "utf-8")
    assert [p.group for p in load(path, sandbox)[0]] == ["composed, known"]


def test_a_program_cannot_pass_by_ending_early(sandbox: Sandbox) -> None:
    (problem,) = generated(1, sandbox)
    for cheat in ("  return 1;\n}\n[1, 2, 3]; /*", "  return 1;\n}\nArray.prototype.toJSON = () => [1];\n"):
        assert not judge(problem, problem.prompt + cheat, sandbox).solved


def test_human_eval_counts_assertions_and_leaves_out_failing_references(sandbox: Sandbox, tmp_path: Path) -> None:
    bad = DOUBLE | {"task_id": "JavaScript/1", "canonical_solution": "  return (0, n);\n}\n"}
    none = DOUBLE | {"task_id": "JavaScript/2", "test": "5"}
    needs = DOUBLE | {"task_id": "JavaScript/3", "canonical_solution": "  return require('x')(n);\n}\n"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (DOUBLE, bad, none, needs)), "utf-8")
    (problem,), failing = load(path, sandbox)
    assert failing == ["JavaScript/1", "JavaScript/2", "JavaScript/3"]
    assert (problem.id, problem.group, problem.assertions) == ("JavaScript/0", "HumanEval-X", 2)
    half = judge(problem, "const twice = (n) => 4", sandbox)
    assert (half.ran, half.solved) == (True, False)
    silent = judge(problem, "const twice = (n) => n * 2;\nconsole.assert = () => {}", sandbox)
    assert silent.solved  # the replacement is not taken
    early = judge(problem, "const twice = (n) => { throw 1 };\ntry { x() } catch (e) {}", sandbox)
    assert (early.ran, early.solved) == (False, False)
    more = judge(problem, "const twice = (n) => { console.assert(true); return n * 2 }", sandbox)
    assert not more.solved


def test_our_rows_from_a_file(sandbox: Sandbox, tmp_path: Path) -> None:
    task = build(TEST_SEEDS + 1, sandbox)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(asdict(task)) + "\n", "utf-8")
    problems, failing = load(path, sandbox)
    assert (problems, failing) == (generated(1, sandbox, first=TEST_SEEDS + 1), [])
    assert judge(problems[0], "", sandbox).status == "error"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5\n", ":1: no task of ours"),
        ('{"kind": "predict"}\n', ":1: no task of ours .*predict"),
        ('{"kind": "write"}\n', ":1: no task of ours .*tests"),
        (json.dumps({**DOUBLE, "test": 5}) + "\n", "has no row whose reference solves it"),
        ("{", "is not JSON lines"),
        ("", "has no row whose reference solves it"),
    ],
)
def test_bad_files_are_named(content: str, message: str, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=message):
        load(path, sandbox)


def test_a_missing_file_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match=r"tasks 'nowhere.jsonl' is no file"):
        load(Path("nowhere.jsonl"), sandbox)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("  if (a) {\n  }\n  return 1;\n}\nmore\n}\n", "  if (a) {\n  }\n  return 1;\n}\n"),
        ("  return 1;", "  return 1;"),
        ("", ""),
    ],
)
def test_cut(text: str, kept: str) -> None:
    assert cut(text) == kept


def test_code_of_a_reply() -> None:
    assert code_of("Here:\n```js\nfunction f() {}\n```\nand ```js\nno\n```") == "function f() {}\n"
    assert code_of("```\nfunction f() {") == "function f() {"
    assert code_of("function f() {}") == "function f() {}"


def test_text_that_is_no_program_is_an_error_of_the_answer(sandbox: Sandbox) -> None:
    (problem,) = generated(1, sandbox)
    verdict = judge(problem, "\ud800", sandbox)
    assert (verdict.status, verdict.solved) == ("error", False)
    assert verdict.error == "the program has a lone surrogate at character 0"
