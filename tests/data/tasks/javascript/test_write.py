"""Many tasks: in order, the same with any number of workers, and on disk whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.data.heldout import read_rows
from octavo.data.tasks.javascript import write
from octavo.data.tasks.javascript.task import TEST_SEEDS, TRAIN_SEEDS, Task


def test_order_and_kinds_do_not_depend_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_PART", 2)
    alone = list(write.tasks(range(3, 8), kinds=("write", "predict")))
    assert [task.id for task in alone] == ["predict/3", "write/4", "predict/5", "write/6", "predict/7"]
    assert list(write.tasks(range(3, 8), kinds=("write", "predict"), workers=2)) == alone


@pytest.mark.parametrize(
    ("seeds", "kinds", "workers", "message"),
    [
        (range(0), ("write",), 1, "0 seeds from 0"),
        (range(TRAIN_SEEDS - 1, TRAIN_SEEDS + 1), ("write",), 1, "2 seeds from 999999999"),
        (range(TEST_SEEDS - 1, TEST_SEEDS), ("write",), 1, "1 seeds from 1999999999"),
        (range(2), (), 1, "kinds are none"),
        (range(2), ("guess",), 1, "kinds are guess"),
        (range(2), ("write",), 0, "workers is 0"),
    ],
)
def test_bad_calls_are_named(seeds: range, kinds: tuple[write.Kind, ...], workers: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(write.tasks(seeds, kinds=kinds, workers=workers))


def test_an_interrupted_file_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[Task]:
        yield next(write.tasks(range(1)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write.write_tasks(tmp_path / "tasks.jsonl", broken())
    assert not (tmp_path / "tasks.jsonl").exists()


def test_command_writes_composed_programs_behind_families(tmp_path: Path) -> None:
    line = ["--out", str(tmp_path / "t.jsonl.xz"), "--count", "2", "--composed", "3"]
    done = subprocess.run([sys.executable, "-m", "octavo.data", "javascript", *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["tasks"], told["structures"], told["near_held_out"]) == (5, 3, {})
    ids = [row["id"] for row in read_rows(tmp_path / "t.jsonl.xz")]
    assert ids[:2] == ["write/0", "write/1"]
    assert all("/composed/" in name for name in ids[2:])


def test_command_writes_json_lines(tmp_path: Path) -> None:
    line = ["--out", str(tmp_path / "t.jsonl"), "--count", "2", "--seed-from", str(TEST_SEEDS)]
    done = subprocess.run([sys.executable, "-m", "octavo.data", "javascript", *line], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"tasks": 2}), done.stderr
    rows = [json.loads(row) for row in (tmp_path / "t.jsonl").read_text("utf-8").splitlines()]
    assert [(row["seed"], row["held_out"]) for row in rows] == [(TEST_SEEDS, False), (TEST_SEEDS + 1, True)]
