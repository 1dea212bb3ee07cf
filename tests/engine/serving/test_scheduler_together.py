"""Answers that share a task: how many, which, and that priorities keep their weight."""

from __future__ import annotations

from itertools import pairwise

import pytest

from octavo.engine.serving.scheduler import Kind, Rules, Scheduler


def parties(rules: dict[str, int], jobs: dict[str, int], rounds: int) -> list[tuple[str, ...]]:
    """The answering tasks of one lane after another, each over before the next one of the same lane begins; `jobs` by
    priority."""
    scheduler = Scheduler(Rules(total_pages=1000, **rules))
    for id, priority in jobs.items():
        scheduler.add(id, prompt=1, most=10_000, priority=priority)
    for _ in range(2 * len(jobs)):  # START and READ of each
        task = scheduler.next(free_pages=1000)
        assert task is not None
        if task.kind is Kind.ANSWER:
            for id in task.ids:
                scheduler.done(id, answered=1)
            continue
        scheduler.done(task.id, read=task.count)
    while any(job.state != "answering" for job in scheduler._jobs.values()):
        task = scheduler.next(free_pages=1000)
        assert task is not None
        for id in task.ids:
            scheduler.done(id, **({"answered": 1} if task.kind is Kind.ANSWER else {"read": task.count}))
    found, going = [], []
    for _ in range(rounds):
        while (task := scheduler.next(free_pages=1000)) is not None:
            scheduler.check_integrity()
            going.append(task)
            found.append(task.ids)
        over = going.pop(0)
        for id in over.ids:
            scheduler.done(id, answered=over.count)
            scheduler.check_integrity()
    return found


def test_answers_share_a_task_in_equal_parts_for_the_lanes() -> None:
    found = parties({"lanes": 2, "together": 16}, dict.fromkeys("abcdefgh", 0), 40)
    assert {len(ids) for ids in found[2:]} == {4}
    told = [id for ids in found for id in ids]
    assert max(map(told.count, "abcdefgh")) - min(map(told.count, "abcdefgh")) <= 1
    assert all(not set(a) & set(b) for a, b in pairwise(found[2:])), "a job in two tasks at a time"


def test_no_task_has_more_jobs_than_may_go_together() -> None:
    assert {len(ids) for ids in parties({"lanes": 1, "together": 3}, dict.fromkeys("abcdefgh", 0), 40)} <= {2, 3}
    assert {len(ids) for ids in parties({"lanes": 1}, dict.fromkeys("abc", 0), 20)} == {1}


def test_priority_keeps_its_weight_among_jobs_that_go_together() -> None:
    told = [id for ids in parties({"lanes": 1, "together": 8}, {"a": 0, "b": 10, "c": 20}, 400) for id in ids]
    assert told.count("b") / told.count("a") == pytest.approx(2, rel=0.05)
    assert told.count("c") / told.count("a") == pytest.approx(4, rel=0.05)
