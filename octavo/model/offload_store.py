"""Routed experts on disk and the part of them that memory holds.

Covers: `ExpertStore`: reading matrices in the background, in the order in which layers ask for them; the hot set, its
budget and what it keeps; counts of all that. Does not cover: where matrices lie and how they are decoded
(`checkpoint.matrix`), what a layer does with them (`offload`).

A matrix (one of w1, w3, w2 of an expert) is held as the file stores it, so a budget holds 7.5 times as many FP4 experts
as it would in FP32.

What stays: score[l, e] counts the tokens that chose expert e of layer l, and every token that passes the layer takes
off 1 part in `HALF_LIFE_TOKENS / ln 2`: least frequently used, with recent use weighing more. A matrix that was read
enters the hot set if there is room, or in place of those of the lowest score as long as that is below its own; so a
pass over all experts of a layer does not wash out the others.

What memory holds: hot set + what was read ahead <= budget, always, and besides what a layer is using right now (the
experts of a handful of tokens, or one matrix a thread). What is read ahead is at most the reserve (`config.offload`),
half of it on a guess.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from octavo.config.offload import divide
from octavo.model.checkpoint import Raw, Shards, StoredMatrix

W1, W3, W2 = 0, 1, 2
HALF_LIFE_TOKENS = 1024
READERS = 2  # reads at a time: one leaves a disk idle between reads, more did not read faster

Key = tuple[int, int, int]
"""(layer, W1 | W3 | W2, expert)."""


@dataclass(slots=True, kw_only=True)
class OffloadReport:
    """What became of the experts asked for since `ExpertStore.reset`; matrices, bytes and seconds.

    hits: matrices that the hot set held; misses: those that were read, of which `ahead` were complete when they were
    asked for. bytes_read: from files (or the system's cache of them), guesses that nobody wanted included, which
    `bytes_wasted` counts. wait_seconds: time in which layers stood still for a read. guessed, guessed_right: experts
    that a guess named for a layer, and those of them that the layer then chose; chosen: experts that such layers chose.
    hot_bytes, peak_bytes: held now, and most ever held with what was read ahead. tokens: that passed the first layer.
    """

    hits: int = 0
    misses: int = 0
    ahead: int = 0
    bytes_read: int = 0
    bytes_wasted: int = 0
    wait_seconds: float = 0.0
    guessed: int = 0
    guessed_right: int = 0
    chosen: int = 0
    tokens: int = 0
    hot_bytes: int = 0
    peak_bytes: int = 0

    @property
    def hit_share(self) -> float:
        """Hits among all matrices asked for; 0 before any."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def guess_share(self) -> float:
        """Chosen experts that a guess had named, among those of layers for which there was one; 0 before any."""
        return self.guessed_right / max(1, self.chosen)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the shares."""
        return asdict(self) | {"hit_share": self.hit_share, "guess_share": self.guess_share}


@dataclass(slots=True, eq=False)
class _Reading:
    """A matrix that is being read or was read ahead of its use."""

    nbytes: int
    guess: bool
    raw: Raw | None = None
    error: BaseException | None = None
    wanted: bool = True

    @property
    def done(self) -> bool:
        return self.raw is not None or self.error is not None


@dataclass(slots=True)
class _Lines:
    """Matrices to read: what layers wait for, by layer, and then what the next one may want."""

    wanted: dict[int, deque[Key]] = field(default_factory=dict)
    guessed: deque[Key] = field(default_factory=deque)


class ExpertStore:
    """The routed experts of all layers. Safe for use from several threads, each in a layer of its own."""

    def __init__(
        self, layers: Sequence[tuple[Sequence[StoredMatrix], ...]], shards: Shards, *, budget_bytes: int, top: int
    ) -> None:
        """layers: of each, the matrices w1, w3, w2 of all experts. `top` experts are chosen for a token.

        LimitError for a budget below the experts of one token in two layers: the one at work and the one ahead.
        """
        self._matrices, self._shards = layers, shards
        self.total_bytes = sum(m.nbytes for layer in layers for part in layer for m in part)
        self.budget_bytes = budget_bytes
        one = max(sum(max(matrix.nbytes for matrix in part) for part in layer) for layer in layers)
        self.division = divide(budget_bytes, total_bytes=self.total_bytes, token_bytes=top * one)
        self._hot: dict[Key, Raw] = {}
        self._scores = np.zeros((len(layers), max(len(layer[W1]) for layer in layers)))
        self._held = np.zeros((*self._scores.shape, 3), dtype=bool)
        self._readings: dict[Key, _Reading] = {}
        self._lines, self._ahead_bytes, self._guess_bytes = _Lines(), 0, 0
        self._guesses: dict[int, set[int]] = {}
        self._changed = threading.Condition(threading.RLock())
        self._threads, self._active = ThreadPoolExecutor(READERS, thread_name_prefix="octavo-experts"), 0
        self.report = OffloadReport()

    @property
    def matrices(self) -> list[StoredMatrix]:
        """Every matrix, layer by layer."""
        return [matrix for layer in self._matrices for part in layer for matrix in part]

    def reset(self) -> None:
        """Count from here; what is held stays."""
        with self._changed:
            held = self.report.hot_bytes
            self.report = OffloadReport(hot_bytes=held, peak_bytes=held + self._ahead_bytes)

    # -- what layers say -----------------------------------------------------------------------------------------------

    def want(self, layer: int, counts: Mapping[int, int], tokens: int, *, by_matrix: bool) -> None:
        """`layer` is about to ask, once each, for the experts in `counts` (tokens of each), in this order.

        by_matrix: w1 and w3 of every expert first, then w2 of every one; else an expert after the other.
        """
        with self._changed:
            self._scores[layer] *= math.exp(-tokens * math.log(2) / HALF_LIFE_TOKENS)
            self._scores[layer, list(counts)] += list(counts.values())
            if layer == 0:
                self.report.tokens += tokens
            guess = self._guesses.pop(layer, None)
            if guess is not None:
                self.report.guessed += len(guess)
                self.report.guessed_right += len(guess & counts.keys())
                self.report.chosen += len(counts)
            self._lines.guessed = deque(key for key in self._lines.guessed if key[0] != layer)
            for key, reading in list(self._readings.items()):
                if key[0] == layer:
                    reading.wanted = key[2] in counts
                    if reading.done and not reading.wanted:
                        self._put_aside(key, reading)
            line = _in_order(layer, counts, by_matrix)
            self._lines.wanted[layer] = deque(key for key in line if key not in self._hot and key not in self._readings)
            self._read_on()

    def expect(self, layer: int, experts: Iterable[int], *, by_matrix: bool) -> None:
        """`layer` will be next, and will perhaps want these; takes the place of what was expected before."""
        with self._changed:
            named = dict.fromkeys(experts, 1)
            self._guesses = {layer: set(named)}
            line = _in_order(layer, named, by_matrix)
            self._lines.guessed = deque(key for key in line if key not in self._hot and key not in self._readings)
            self._read_on()

    def get(self, layer: int, part: int, expert: int) -> Raw:
        """A matrix, wherever it is; CheckpointError, naming tensor and file, if it cannot be read any more."""
        key = (layer, part, expert)
        with self._changed:
            raw = self._hot.get(key)
            if raw is not None:
                self.report.hits += 1
                return raw
            self.report.misses += 1
            if key in self._readings:
                return self._awaited(key)
            line = self._lines.wanted.get(layer)
            if line is not None and key in line:
                line.remove(key)
        started = time.perf_counter()
        raw = self._matrix(key).read(self._shards)
        with self._changed:
            self.report.wait_seconds += time.perf_counter() - started
            self.report.bytes_read += raw.nbytes
            self._keep(key, raw)
        return raw

    def values(self, layer: int, part: int, expert: int, row: int) -> Raw:
        """One row of a matrix, read by itself and not counted: for looking at a few weights."""
        return self._matrices[layer][part][expert].read(self._shards, slice(row, row + 1))

    # -- reading, under the lock unless said otherwise -----------------------------------------------------------------

    def _matrix(self, key: Key) -> StoredMatrix:
        layer, part, expert = key
        return self._matrices[layer][part][expert]

    def _awaited(self, key: Key) -> Raw:
        reading = self._readings[key]
        if reading.done:
            self.report.ahead += 1
        else:
            started = time.perf_counter()
            while not reading.done:
                self._changed.wait()
            self.report.wait_seconds += time.perf_counter() - started
        if self._readings.get(key) is reading:
            self._release(key, reading)
            if reading.raw is not None:
                self._keep(key, reading.raw)
            self._read_on()
        if reading.raw is None:
            assert reading.error is not None
            raise reading.error
        return reading.raw

    def _release(self, key: Key, reading: _Reading) -> None:
        del self._readings[key]
        self._ahead_bytes -= reading.nbytes
        self._guess_bytes -= reading.nbytes if reading.guess else 0

    def _put_aside(self, key: Key, reading: _Reading) -> None:
        """What was read on a wrong guess: kept if it is worth it, else wasted."""
        self._release(key, reading)
        if reading.raw is not None and not self._keep(key, reading.raw):
            self.report.bytes_wasted += reading.raw.nbytes

    def _read_on(self) -> None:
        """Put threads to work as long as there is something to read and room for it."""
        while self._active < READERS and self._next(take=False) is not None:
            self._active += 1
            self._threads.submit(self._serve)

    def _next(self, *, take: bool) -> tuple[Key, bool] | None:
        """The matrix to read next, and whether it is a guess."""
        room = self.division.reserve - self._ahead_bytes
        for line in self._lines.wanted.values():
            if line and self._matrix(line[0]).nbytes <= room:
                return (line.popleft() if take else line[0]), False
        line, room = self._lines.guessed, min(room, self.division.reserve // 2 - self._guess_bytes)
        if line and self._matrix(line[0]).nbytes <= room:
            return (line.popleft() if take else line[0]), True
        return None

    def _serve(self) -> None:
        """Read until nothing is left to do; runs on a thread of its own, without the lock."""
        while True:
            with self._changed:
                found = self._next(take=True)
                if found is None:
                    self._active -= 1
                    return
                key, guess = found
                if key in self._hot or key in self._readings:
                    continue
                reading = _Reading(self._matrix(key).nbytes, guess)
                self._readings[key] = reading
                self._ahead_bytes += reading.nbytes
                self._guess_bytes += reading.nbytes if guess else 0
                self._note_peak()
            raw, error = None, None
            try:
                raw = self._matrix(key).read(self._shards)
            except BaseException as raised:  # whoever asks for the matrix hears of it
                error = raised
            with self._changed:
                reading.raw, reading.error = raw, error
                self.report.bytes_read += 0 if raw is None else raw.nbytes
                if not reading.wanted and self._readings.get(key) is reading:
                    self._put_aside(key, reading)
                self._changed.notify_all()

    # -- the hot set ---------------------------------------------------------------------------------------------------

    def _keep(self, key: Key, raw: Raw) -> bool:
        """Take a matrix into the hot set if it is worth more than what has to leave; whether it is there now."""
        if key in self._hot:
            return True
        layer, part, expert = key
        while self.report.hot_bytes + raw.nbytes > self.division.hot:
            held = self._held.any(axis=2)
            if not held.any():
                return False
            lowest = int(np.where(held, self._scores, np.inf).argmin())
            victim = divmod(lowest, self._scores.shape[1])
            if self._scores[victim] >= self._scores[layer, expert]:
                return False
            self._drop((victim[0], int(np.flatnonzero(self._held[victim])[0]), victim[1]))
        self._hot[key] = raw
        self._held[layer, expert, part] = True
        self.report.hot_bytes += raw.nbytes
        self._note_peak()
        return True

    def _drop(self, key: Key) -> None:
        self.report.hot_bytes -= self._hot.pop(key).nbytes
        self._held[key[0], key[2], key[1]] = False

    def _note_peak(self) -> None:
        self.report.peak_bytes = max(self.report.peak_bytes, self.report.hot_bytes + self._ahead_bytes)

    def check_integrity(self) -> None:
        """AssertionError unless counts and contents agree; for tests."""
        with self._changed:
            assert self.report.hot_bytes == sum(raw.nbytes for raw in self._hot.values()) <= self.division.hot
            assert {(k, e, p) for k, p, e in self._hot} == {tuple(map(int, at)) for at in np.argwhere(self._held)}
            assert self._ahead_bytes == sum(reading.nbytes for reading in self._readings.values())
            assert self._guess_bytes == sum(r.nbytes for r in self._readings.values() if r.guess)
            assert self.report.peak_bytes <= self.budget_bytes


def _in_order(layer: int, counts: Iterable[int], by_matrix: bool) -> list[Key]:
    if by_matrix:
        return [*((layer, part, e) for e in counts for part in (W1, W3)), *((layer, W2, e) for e in counts)]
    return [(layer, part, e) for e in counts for part in (W1, W3, W2)]
