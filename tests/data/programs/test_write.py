"""Many composed tasks: in order of seeds, none twice, held-out names left out, everything counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.data.programs.structure import canonical
from octavo.data.programs.write import Tally, composed
from octavo.data.tasks.javascript.task import TEST_SEEDS


def test_tasks_are_in_order_and_apart(tmp_path: Path) -> None:
    plain = list(composed(30))
    assert [task.seed for task in plain] == sorted({task.seed for task in plain})
    assert not any(task.held_out for task in plain)
    taken = plain[4].signature.partition("(")[0].split()[1].strip(" =")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"declaration": f"const {taken} = (x) => {{"}) + "\n", "utf-8")
    tally = Tally()
    rest = list(composed(25, problems=[path], tally=tally))
    assert plain[4] not in rest
    assert [task for task in rest if task in plain] == rest[: len([task for task in rest if task in plain])]
    assert tally.left_out["held-out problem"] >= 1
    assert tally.structures == {task.family for task in rest}


def test_tests_are_written_and_of_other_structures() -> None:
    tally = Tally()
    asked = list(composed(60, seed_from=TEST_SEEDS, kind="write", tally=tally))
    assert len({canonical(task.family) for task in asked}) == 60
    assert tally.left_out["asked before"] >= 1
    assert all(task.held_out and task.kind == "write" and task.broken for task in asked)
    with pytest.raises(UsageError, match="composed is 0"):
        next(composed(0))
