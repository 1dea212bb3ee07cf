"""Verified tasks as JSON lines.

Covers: many seeds at once, a file that is whole or not there. Does not cover: what a task is (`task`).
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from octavo.config.errors import UsageError
from octavo.data.tasks.javascript.task import KINDS, TEST_SEEDS, TRAIN_SEEDS, Kind, Task, build
from octavo.sandbox import Limits, Sandbox

_PART = 256  # tasks for one sandbox, whose start takes as long as some 20 of them
_SECONDS = 0.5
# Text of one kind: the byte before tells more than the place.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def tasks(seeds: range, *, kinds: tuple[Kind, ...] = ("write",), workers: int = 1) -> Iterator[Task]:
    """The tasks of `seeds` in order, `kinds` in turn by seed. Raises UsageError for seeds or kinds that are none."""
    if len(seeds) < 1 or seeds[0] < 0 or (seeds[0] < TEST_SEEDS and seeds[-1] >= TRAIN_SEEDS):
        raise UsageError(
            f"{len(seeds)} seeds from {seeds.start}: at least 1, all below {TRAIN_SEEDS} or all from {TEST_SEEDS}"
        )
    if not kinds or not set(kinds) <= set(KINDS):
        raise UsageError(f"kinds are {', '.join(kinds) or 'none'}; they must be among {', '.join(KINDS)}")
    if workers < 1:
        raise UsageError(f"workers is {workers}; it must be at least 1")

    def part(some: range) -> list[Task]:
        with Sandbox(Limits(seconds=_SECONDS)) as sandbox:
            return [build(seed, sandbox, kind=kinds[seed % len(kinds)]) for seed in some]

    parts = [seeds[first : first + _PART] for first in range(0, len(seeds), _PART)]
    with ThreadPoolExecutor(workers) as pool:  # threads only wait: the work is in the sandboxes' processes
        for made in pool.map(part, parts):
            yield from made


def write_tasks(out: Path, made: Iterator[Task]) -> int:
    """Write one JSON object a line, the fields of `Task`; the number of lines. The file, compressed where its name ends
    in .xz, appears when it is complete."""
    partial = out.with_name(f"{out.name}.partial")
    count = 0
    packed = out.suffix == ".xz"
    with lzma.open(partial, "wt", encoding="utf-8", filters=_FILTERS) if packed else partial.open(
        "w", encoding="utf-8"
    ) as lines:
        for task in made:
            lines.write(json.dumps(asdict(task), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(out)
    return count
