"""Held-out families are known by what they give, problems of others by names and wordings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.data.programs.apart import Problems, nearest, references
from octavo.data.programs.compose import candidate
from octavo.data.tasks.javascript.task import FAMILIES, TEST_SEEDS, build
from octavo.sandbox import Limits, Sandbox


def test_every_held_out_family_is_recognised_and_others_are_not() -> None:
    with Sandbox(Limits(seconds=10, result_chars=1 << 20)) as sandbox:
        found = references(sandbox)
        assert {one.family for one in found} == {family.name for family in FAMILIES if family.held_out}
        assert sum(one.family == "kth_largest" for one in found) == 3
        tasks = [build(seed, sandbox) for seed in range(TEST_SEEDS + 1, TEST_SEEDS + 41, 2)]
        near = nearest(tasks, found, sandbox)
        assert [family for family, _ in near] == [task.family for task in tasks]
        assert {share for _, share in near} == {1.0}
        others = [build(seed, sandbox) for seed in range(12)]
        assert max(share for _, share in nearest(others, found, sandbox)) < 1.0


def test_problems_are_known_by_name_and_by_thirteen_words(tmp_path: Path) -> None:
    task = candidate(0, "write").task
    told = "zebra one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    rows = [{"task_id": "a", "declaration": "\nconst aimless = (x) => {\n", "prompt": told}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    problems = Problems([path])
    assert problems.names == {"aimless"}
    assert not problems.holds(task)
    assert problems.holds(replace(task, signature="function aimless(x)"))
    assert problems.holds(replace(task, signature="const aimless = (x) =>"))
    assert problems.holds(replace(task, prompt=f"// {told.partition(' ')[2]}\n"))
    assert not problems.holds(replace(task, prompt=f"// {told.rpartition(' six')[0]}\n"))
    assert not Problems([]).holds(task)
    with pytest.raises(UsageError, match="does not exist"):
        Problems([tmp_path / "nowhere"])
