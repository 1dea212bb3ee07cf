"""Tasks and rules: their limits, and all jobs of a task."""

from __future__ import annotations

import pytest

from octavo.config.errors import UsageError
from octavo.engine.serving.tasks import Kind, Rules, Task


@pytest.mark.parametrize("name", ["lanes", "chunk", "total_pages", "burst", "together"])
def test_limits_are_at_least_one(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0; it must be at least 1"):
        Rules(**{"total_pages": 4, name: 0})


def test_a_task_names_all_its_jobs() -> None:
    assert Task(kind=Kind.READ, id="a", count=5).ids == ("a",)
    assert Task(kind=Kind.ANSWER, id="a", count=1, also=("b", "c")).ids == ("a", "b", "c")
