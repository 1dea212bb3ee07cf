"""Batches for training, made ahead by plain processes.

Covers: what a step's batch is (a pure function of seed and step), workers, order, prefetching, failure of a worker.
Does not cover: tensors, devices, which plan a stage has.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np

from octavo.config.errors import ConfigError, OctavoError
from octavo.data.pack import PackedText
from octavo.data.positions import row_dilution, row_positions
from octavo.data.prose import TextSource
from octavo.data.row import Row
from octavo.data.rows import KINDS, Encode, Mix, make_row

_PART_TOKENS = 16_384  # tokens that one worker makes at a time, at least one row
_PATIENCE = 2.0  # seconds between looks at whether the workers live


class Batch(TypedDict):
    """tokens: uint16 [B, S]. weight: float32 [B, S]. positions: int32 [B, S], from 0 in every document. kind: uint8
    [B, S], at answer tokens 1 + the place of their kind of question in `KINDS`, elsewhere 0. dilution: float32 [B], log
    of how many times as long a context each row's dense compressed entries stand for. document: int32 [B, S], the
    number of each token's document in its row."""

    tokens: np.ndarray
    weight: np.ndarray
    positions: np.ndarray
    kind: np.ndarray
    dilution: np.ndarray
    document: np.ndarray


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """Rows of one step: their length, the share with position skips, the share that stands for a longer context, the
    mix of tasks."""

    row_length: int
    skips: float = 0.0
    dilute: float = 0.0
    mix: Mix = field(default_factory=Mix)


class LoaderError(OctavoError):
    """A worker process failed or died."""


def encoder(tokenizer_file: Path | str) -> Encode:
    """Encoding of plain texts: no special token is added or read."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.encode_special_tokens = True

    def encode(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return encode


def make_rows(
    text: TextSource, encode: Encode, plan: RowPlan, *, seed: int, step: int, first: int, count: int
) -> Batch:
    """Rows first .. first + count of a step: each depends on seed, step and its own number only."""
    rows, positions, dilution = [], [], []
    for number in range(first, first + count):
        rng = np.random.default_rng((seed, step, number))
        row = make_row(rng, text, encode, plan.row_length, plan.mix)
        sizes = np.diff(np.append(row.starts, plan.row_length)).tolist()
        rows.append(row)
        positions.append(np.concatenate([row_positions(rng, size, skips=plan.skips) for size in sizes]))
        # One number is added for the whole row, and documents of several lengths stand for no one context.
        one = len(sizes) == 1
        dilution.append(row_dilution(rng, plan.row_length, share=plan.dilute) if one else 0.0)
    return Batch(
        tokens=np.stack([row.tokens for row in rows]), weight=np.stack([row.weight for row in rows]),
        positions=np.stack(positions), kind=np.stack([_kinds(row) for row in rows]),
        dilution=np.array(dilution, dtype=np.float32), document=np.stack([row.document for row in rows]),
    )  # fmt: skip


def _kinds(row: Row) -> np.ndarray:
    """[S] uint8: the kind of every answer token. An answer is a run of tokens of weight 1."""
    kind = np.zeros(len(row.tokens), dtype=np.uint8)
    answer = row.weight >= 1.0
    for (_, start, _, _), name in zip(row.span.tolist(), row.kinds, strict=True):
        rest = np.flatnonzero(~answer[start:])
        kind[start : start + int(rest[0]) if len(rest) else len(kind)] = 1 + KINDS.index(name)
    return kind


@dataclass(frozen=True)
class _Task:
    step: int
    first: int
    count: int
    plan: RowPlan


def _work(pack_folder: str, tokenizer_file: str, seed: int, tasks, done) -> None:
    """A worker: parts of batches until None comes or the parent is gone."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = os.getppid()
    try:
        text = TextSource.open(PackedText(pack_folder), tokenizer_file)
        encode = encoder(tokenizer_file)
        while True:
            try:
                task = tasks.get(timeout=_PATIENCE)
            except queue.Empty:
                if os.getppid() != parent:
                    return
                continue
            if task is None:
                return
            part = make_rows(text, encode, task.plan, seed=seed, step=task.step, first=task.first, count=task.count)
            done.put((task.step, task.first, part))
    except KeyboardInterrupt:
        return
    except BaseException:
        done.put((-1, 0, traceback.format_exc()))


class Loader:
    """Iterates over batches of steps `start` .. len(plan), each of `tokens_per_step` tokens.

    The batch of a step depends on `seed`, `plan[step]` and the pack only, not on `workers` or `start`. workers 0: made
    in this process. Close it, or use it in a `with` block. Raises ConfigError for a plan whose rows do not fill a step
    evenly, LoaderError when a worker fails. share: (i, n) makes the i-th of n equal parts of every batch.
    """

    def __init__(
        self, pack_folder: Path | str, tokenizer_file: Path | str, plan: Sequence[RowPlan], tokens_per_step: int, *,
        seed: int, workers: int = 0, start: int = 0, ahead: int = 4, share: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        for length in {row.row_length for row in plan}:
            if tokens_per_step % (length * share[1]):
                raise ConfigError(
                    f"tokens_per_step {tokens_per_step} is no multiple of row_length {length} x {share[1]} ranks"
                )
        self._share = share
        self._files = str(pack_folder), str(tokenizer_file)
        self._plan = plan
        self._tokens_per_step = tokens_per_step
        self._seed = seed
        self._start = start
        self._ahead = ahead
        self._processes: list = []
        if workers:
            PackedText(pack_folder)  # unpacked once, before the workers open it
            context = multiprocessing.get_context("spawn")
            self._tasks = context.Queue()
            self._done = context.Queue()
            for _ in range(workers):
                process = context.Process(
                    target=_work, args=(*self._files, seed, self._tasks, self._done), daemon=True
                )  # fmt: skip
                process.start()
                self._processes.append(process)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, step: int) -> int:
        """Rows of this share of a step's batch."""
        return self._tokens_per_step // self._plan[step].row_length // self._share[1]

    def _parts(self, step: int) -> list[_Task]:
        plan = self._plan[step]
        size = max(1, _PART_TOKENS // plan.row_length)
        total = self.rows(step)
        begin = self._share[0] * total
        return [_Task(step, begin + first, min(size, total - first), plan) for first in range(0, total, size)]

    def __iter__(self) -> Iterator[Batch]:
        return self._iterate_workers() if self._processes else self._iterate_here()

    def _iterate_here(self) -> Iterator[Batch]:
        text = TextSource.open(PackedText(self._files[0]), self._files[1])
        encode = encoder(self._files[1])
        for step in range(self._start, len(self._plan)):
            count = self.rows(step)
            first = self._share[0] * count
            yield make_rows(text, encode, self._plan[step], seed=self._seed, step=step, first=first, count=count)

    def _iterate_workers(self) -> Iterator[Batch]:
        ready: dict[int, dict[int, Batch]] = {}
        sent = self._start
        for step in range(self._start, len(self._plan)):
            while sent < min(len(self._plan), step + 1 + self._ahead):
                for task in self._parts(sent):
                    self._tasks.put(task)
                sent += 1
            wanted = len(self._parts(step))
            while len(ready.get(step, {})) < wanted:
                number, first, part = self._next()
                ready.setdefault(number, {})[first] = part
            parts = [part for _, part in sorted(ready.pop(step).items())]
            yield Batch(
                tokens=np.concatenate([p["tokens"] for p in parts]),
                weight=np.concatenate([p["weight"] for p in parts]),
                positions=np.concatenate([p["positions"] for p in parts]),
                kind=np.concatenate([p["kind"] for p in parts]),
                dilution=np.concatenate([p["dilution"] for p in parts]),
                document=np.concatenate([p["document"] for p in parts]),
            )

    def _next(self) -> tuple[int, int, Batch]:
        while True:
            try:
                step, first, part = self._done.get(timeout=_PATIENCE)
            except queue.Empty:
                dead = [p for p in self._processes if not p.is_alive()]
                if dead:
                    raise LoaderError(f"a loader process ended with exit code {dead[0].exitcode}") from None
                continue
            if step < 0:
                raise LoaderError(f"a loader process failed: {part}")
            return step, first, part

    def close(self) -> None:
        """Stop the workers."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._processes = []
