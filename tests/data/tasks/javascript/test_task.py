"""Tasks follow their seed, training and tests stay apart, wrong answers fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from octavo.config.errors import UsageError
from octavo.data.tasks.javascript.judge import passed, program
from octavo.data.tasks.javascript.task import FAMILIES, TEST_SEEDS, TRAIN_SEEDS, build
from octavo.sandbox import Limits, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(seconds=5)) as made:
        yield made


def test_one_family_in_eight_is_held_out() -> None:
    held_out = sum(family.held_out for family in FAMILIES)
    assert len(FAMILIES) >= 40
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert len(FAMILIES) // 8 <= held_out <= len(FAMILIES) // 7


def test_a_seed_gives_the_same_task_and_answers_pass_where_mutants_fail(sandbox: Sandbox) -> None:
    for seed in (0, 7, TEST_SEEDS, TEST_SEEDS + 1):
        task = build(seed, sandbox)
        assert build(seed, sandbox) == task
        calls = [call for call, _ in task.tests]
        assert passed(sandbox.run(program(task.prompt + task.answer, calls)), task.tests)
        assert not passed(sandbox.run(program(task.broken, calls)), task.tests)
        assert task.source == f"{task.signature} {{\n{task.answer}"
        assert not any(call in task.prompt for call in calls)
        assert task.prompt.count(" => ") >= 3


def test_held_out_families_are_for_odd_test_seeds(sandbox: Sandbox) -> None:
    assert not any(build(seed, sandbox).held_out for seed in (*range(6), TEST_SEEDS, TEST_SEEDS + 2))
    assert all(build(TEST_SEEDS + seed, sandbox).held_out for seed in (1, 3))


def test_kinds(sandbox: Sandbox) -> None:
    repair = build(5, sandbox, kind="repair")
    assert repair.broken in repair.prompt
    assert repair.answer == repair.source
    predict = build(5, sandbox, kind="predict")
    call, result = next(test for test in predict.tests if test[0] in predict.prompt)
    assert predict.prompt == f"{predict.source}// {call} => "
    assert predict.answer == f"{result}\n"


@pytest.mark.parametrize("seed", [-1, TRAIN_SEEDS, TEST_SEEDS - 1])
def test_seeds_of_neither_are_refused(seed: int, sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match=f"seed {seed} is for no task"):
        build(seed, sandbox)


def test_unknown_kind_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="unknown kind 'guess': it is one of write, repair, predict"):
        build(1, sandbox, kind="guess")  # type: ignore[arg-type]
