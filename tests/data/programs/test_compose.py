"""Composed tasks: the same for a seed, of the right structures, prompt and answer are the function."""

from __future__ import annotations

import hashlib

import pytest

from octavo.config.errors import UsageError
from octavo.data.programs.chain import HELD_OUT
from octavo.data.programs.compose import candidate, finished, kind_of, written
from octavo.data.programs.structure import canonical
from octavo.data.tasks.javascript.task import TEST_SEEDS, TRAIN_SEEDS, Task


def test_a_seed_gives_one_task() -> None:
    assert candidate(3, "write") == candidate(3, "write")
    assert candidate(3, "write").task.source == candidate(3, "repair").task.source


def test_structures_of_tests_are_no_structures_of_training() -> None:
    taught = [candidate(seed, "write").task for seed in range(60)]
    asked = [candidate(TEST_SEEDS + seed, "write").task for seed in range(20)]
    assert all(task.held_out for task in asked)
    assert not any(task.held_out for task in taught)
    assert {_place(task) for task in asked} == {0}
    assert 0 not in {_place(task) for task in taught}


def _place(task: Task) -> int:
    """Where the structure falls among those kept for tests (0) and those of training."""
    made = hashlib.blake2b(canonical(task.family).encode(), digest_size=8)
    return int.from_bytes(made.digest()) % HELD_OUT


def test_kinds() -> None:
    kinds = [kind_of(seed) for seed in range(2000)]
    assert [round(kinds.count(kind) / 2000, 1) for kind in ("write", "finish", "repair")] == [0.6, 0.2, 0.2]
    for seed in range(20):
        wrote, ended, mended = (finished(candidate(seed, kind), "WRONG") for kind in ("write", "finish", "repair"))
        assert wrote.prompt.endswith("{\n")
        assert (wrote.prompt + wrote.answer).endswith(wrote.source)
        assert (ended.prompt + ended.answer).endswith(ended.source)
        assert "WRONG" in mended.prompt
        assert mended.answer == mended.source
        assert (wrote.broken, mended.broken) == ("", "WRONG")
        shown = [call for call, _ in wrote.tests if call in wrote.prompt]
        assert shown == []


def test_every_argument_is_used_and_told() -> None:
    for seed in range(150):
        task = candidate(seed, "write").task
        body = task.source.partition("\n")[2]
        names = task.signature.partition("(")[2].partition(")")[0].split(", ")
        assert all(name in body and f"`{name}`" in task.instruction for name in names), task.source


@pytest.mark.parametrize("seed", [-1, TRAIN_SEEDS])
def test_seeds_between_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=f"seed {seed} is for no task"):
        candidate(seed, "write")


def test_json() -> None:
    assert written({"é": [True, None]}) == '{"é": [true, null]}'
