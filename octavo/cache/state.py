"""What a sequence needs to go on: pages, tails of every layer, token ids, position.

Covers: `SequenceState` with fork, rollback, snapshot, adoption of stored pages, and its integrity check. Does not
cover: running the model (`View.commit` writes here), files (`octavo.cache.document`).

Tails are immutable tensors that are replaced, never written, so forks share them and rollback cuts them; new rows may
lie behind them in the same memory (`strips`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.places import Places
from octavo.cache.pool import LoadRows, PagePool, Run, Slab, StoreKey
from octavo.cache.strips import Strips
from octavo.cache.tails import LayerTail, lean_tail, raw_start
from octavo.config.errors import LimitError

SNAPSHOT_TOKENS = 4096  # a state keeps what is needed to return to the last multiples of this
_KEPT_SNAPSHOTS = 2


@dataclass(frozen=True)
class Mark:
    """A point to which a state can return: its length and the tails there."""

    length: int
    tails: tuple[LayerTail, ...]


Replay = Callable[[np.ndarray, "SequenceState"], None]


class SequenceState:
    """One sequence in the cache; see the module docstring. Not safe for use from several threads at once."""

    def __init__(self, pool: PagePool, tails: tuple[LayerTail, ...], *, replay: Replay | None = None) -> None:
        self.pool = pool
        self.layout = pool.layout
        self.pages: list[int] = []
        self.runs: list[Run] = []
        self.tails = tails
        self.strips = Strips()
        self.places = Places(self)
        self.length = 0
        self._ids, self._written = np.empty(256, dtype=np.int32), 0  # written: how far the buffer holds ids
        self._marks: tuple[Mark, ...] = (Mark(0, tails),)
        self._replay = replay
        self._closed = False

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> np.ndarray:
        """Token ids so far, [length] int32."""
        return self._ids[: self.length]

    @property
    def nbytes(self) -> int:
        """Bytes this sequence occupies: its pages (shared ones counted in full), its tails, its token ids."""
        return len(self.pages) * self.layout.page_bytes + sum(t.nbytes for t in self.tails) + 4 * self.length

    # -- growth ------------------------------------------------------------------------------------------------------

    def reserve(self, count: int, *, ahead: int = 0) -> None:
        """Make pages for `count` more tokens writable; a shared last page is copied first.

        `ahead` tokens are on their way: their pages were reserved, their steps are not committed.
        """
        assert not self._closed, "the state is closed"
        end = self.length + ahead
        used = -(-end // PAGE_TOKENS)
        if len(self.pages) > used:
            self._drop_pages(used)
        if end % PAGE_TOKENS and not self.pool.allocator.writable(self.pages[-1]):
            fresh = self.pool.take()
            self.pool.copy_page(self.pages[-1], fresh)
            self._drop_pages(used - 1)
            self.pages.append(fresh)
        while len(self.pages) * PAGE_TOKENS < end + count:
            self.pages.append(self.pool.take())
        covered = self.runs[-1].start + self.runs[-1].count if self.runs else 0
        if covered < len(self.pages):
            self.runs = self.pool.runs(self.pages, self.runs)

    def append(self, ids: np.ndarray, tails: tuple[LayerTail, ...]) -> None:
        """Take over what a step computed for `ids`; entries are already in the reserved pages."""
        self._append_ids(ids)
        self.tails = tails
        self._mark()

    def _append_ids(self, ids: np.ndarray) -> None:
        needed = self.length + len(ids)
        again = min(needed, self._written) - self.length  # ids that stood there before a rollback
        same = again <= 0 or np.array_equal(self._ids[self.length : self.length + again], ids[:again])
        if needed > len(self._ids):
            grown = np.empty(max(needed, 2 * len(self._ids)), dtype=np.int32)
            grown[: self.length] = self.tokens
            self._ids = grown
        elif not same:
            self._ids = self._ids.copy()  # views of what was rolled back may be held
        self._ids[self.length : needed] = ids
        self._written = max(needed, self._written) if same else needed
        self.length = needed

    def _mark(self) -> None:
        """Keep the tails where the length is one to return to."""
        if self.length and self.length % SNAPSHOT_TOKENS == 0:
            self._marks = (self._marks[0], *self._marks[1:][1 - _KEPT_SNAPSHOTS :], Mark(self.length, self.tails))

    def _drop_pages(self, keep: int) -> None:
        self.pool.release(self.pages[keep:])
        self.pages, self.runs = self.pages[:keep], self._runs_of(keep)

    def _runs_of(self, pages: int) -> list[Run]:
        """The runs of the first `pages` pages."""
        kept = [run for run in self.runs if run.start < pages]
        if kept and kept[-1].start + kept[-1].count > pages:
            kept[-1] = replace(kept[-1], count=pages - kept[-1].start)
        return kept

    # -- fork, rollback, close ---------------------------------------------------------------------------------------

    def fork(self) -> SequenceState:
        """An independent copy that shares pages and tails until either of the two writes."""
        twin = self._like(self.tails)
        used = -(-self.length // PAGE_TOKENS)
        twin.pages = self.pages[:used]
        self.pool.allocator.hold(twin.pages)
        twin.runs = self._runs_of(used)
        twin.length, twin._ids, twin._marks = self.length, self._ids[: self.length].copy(), self._marks
        twin._written = self.length
        return twin

    def _like(self, tails: tuple[LayerTail, ...]) -> SequenceState:
        """A state of the same kind that holds nothing but these tails."""
        return SequenceState(self.pool, tails, replay=self._replay)

    def rollback(self, n: int) -> None:
        """Forget the last `n` tokens exactly.

        Within the retained margin the tails are cut; further back the state returns to an earlier mark and reads the
        tokens in between again. Raises LimitError when n is negative or larger than the length.
        """
        if not 0 <= n <= self.length:
            raise LimitError(f"rollback: n = {n}, must be between 0 and the sequence length {self.length}")
        if n == 0:
            return
        target = self.length - n
        cut = self._cut_tails(n, target)
        if cut is not None:
            self.tails, self.length = cut, target
            self._forget_marks(target)
        else:
            self._return_to_mark(target)
        self._drop_pages(-(-self.length // PAGE_TOKENS))

    def _cut_tails(self, n: int, target: int) -> tuple[LayerTail, ...] | None:
        window = self.layout.config.sliding_window
        tails = []
        for layer, tail in enumerate(self.tails):
            rows = len(tail.window) - n
            if rows < min(target, window - 1):
                return None
            raw = {}
            for name, values in tail.raw.items():
                if tail.raw_first[name] > raw_start(self.layout, layer, target, margin=0):
                    return None
                raw[name] = values[: target - tail.raw_first[name]]
            conv = tail.conv
            if conv is not None:
                if len(conv) - n < min(target, self.layout.conv_rows - self.layout.margin):
                    return None
                conv = conv[: len(conv) - n]
            tails.append(LayerTail(window=tail.window[:rows], raw=raw, raw_first=tail.raw_first, conv=conv))
        return tuple(tails)

    def _forget_marks(self, target: int) -> None:
        self._marks = tuple(m for m in self._marks if m.length <= target)

    def _return_to_mark(self, target: int) -> None:
        self._forget_marks(target)
        mark, ids = self._marks[-1], self.tokens[:target].copy()
        self.length, self.tails = mark.length, mark.tails
        self._drop_pages(-(-mark.length // PAGE_TOKENS))
        if mark.length < target:
            if self._replay is None:
                again = target - mark.length
                raise LimitError(f"rollback: {again} tokens must be read again, and this state has no model")
            self._replay(ids[mark.length :], self)

    def close(self) -> None:
        """Give the pages back; the state cannot be used afterwards."""
        if not self._closed:
            self._closed = True
            self.pool.release(self.pages)
            self.pages, self.runs = [], []

    def __del__(self) -> None:
        if getattr(self, "_closed", True) is False:
            self.close()

    # -- storage -----------------------------------------------------------------------------------------------------

    @property
    def marks(self) -> tuple[int, ...]:
        """Lengths, ascending, to which the state can return without reading again; `snapshot` knows them."""
        return tuple(mark.length for mark in self._marks)

    def snapshot(self, length: int | None = None, *, lean: bool = False) -> dict[str, Tensor]:
        """The tails by name, now or at one of `marks`; with pages and token ids this is the whole state.

        A lean snapshot leaves out the rows that only a rollback without reading again needs.
        """
        tails = self.tails
        if length is not None and length != self.length:
            tails = next(mark.tails for mark in self._marks if mark.length == length)
        at = self.length if length is None else length
        named: dict[str, Tensor] = {}
        for i, tail in enumerate(tails):
            kept = lean_tail(self.layout, i, tail, at) if lean else tail
            named[f"{i}.window"] = kept.window
            for name, values in kept.raw.items():
                named[f"{i}.raw.{name}.{kept.raw_first[name]}"] = values
            if kept.conv is not None:
                named[f"{i}.conv"] = kept.conv
        return named

    def read_pages(self, first: int, count: int) -> dict[StoreKey, Tensor]:
        """Stored bytes of pages first .. first + count - 1, by store: [count * entries_per_page, row_bytes]."""
        parts = [self.pool.locate(p) for p in self.pages[first : first + count]]
        out = {}
        for key, spec in self.pool.specs.items():
            n = spec.entries_per_page
            out[key] = torch.cat([slab.rows(key)[i * n : (i + 1) * n] for slab, i in parts])
        return out

    def adopt_pages(self, load: LoadRows, count: int) -> None:
        """Append `count` read-only pages, of which `load` gives a store's rows when they are first read.

        Only for a state that is being restored (its pages are all full).
        """
        self.pages.extend(self.pool.adopt(load, count))
        self.runs = self.pool.runs(self.pages, self.runs)

    def move_pages(self, slab: Slab) -> None:
        """Copy the pages that are not of `slab`, a writable one, into it; LimitError when it has no room."""
        moved: list[int] = []
        fresh: list[int] = []
        try:
            for run in self.runs:
                if run.slab is slab:
                    moved += range(slab.first + run.page, slab.first + run.page + run.count)
                    continue
                for _ in range(run.count):
                    fresh.append(self.pool.take())
                self.pool.copy_run(run, fresh[-run.count :])
                moved += fresh[-run.count :]
        except BaseException:
            self.pool.release(fresh)
            raise
        kept = set(moved)
        self.pool.release([page for page in self.pages if page not in kept])
        self.pages, self.runs = moved, self.pool.runs(moved)

    def load_snapshot(self, named: dict[str, Tensor], ids: np.ndarray) -> None:
        """Set tails, token ids and length after the pages were adopted."""
        tails = []
        for i, empty in enumerate(self.tails):
            raw, raw_first = dict(empty.raw), dict(empty.raw_first)
            for name in named:
                parts = name.split(".")
                if parts[:2] == [str(i), "raw"]:
                    raw[parts[2]], raw_first[parts[2]] = named[name], int(parts[3])
            tails.append(
                LayerTail(window=named[f"{i}.window"], raw=raw, raw_first=raw_first, conv=named.get(f"{i}.conv"))
            )
        self._ids, self._written = np.array(ids, dtype=np.int32), len(ids)
        self.length, self.tails = len(ids), tuple(tails)
        self._marks = (self._marks[0], Mark(self.length, self.tails))

    def check_integrity(self) -> None:
        """Pages cover the tokens and are held; tails have the rows that the next step needs."""
        self.pool.allocator.check_integrity()
        assert len(self.pages) * PAGE_TOKENS >= self.length, "too few pages"
        assert all(self.pool.allocator.held(p) for p in self.pages), "a page is not held"
        assert sum(r.count for r in self.runs) == len(self.pages), "runs do not cover the pages"
        for layer, tail in enumerate(self.tails):
            assert len(tail.window) >= min(self.length, self.layout.config.sliding_window - 1), "window rows missing"
            for name, values in tail.raw.items():
                assert tail.raw_first[name] + len(values) == self.length, "compressor rows do not end at the position"
                assert tail.raw_first[name] <= raw_start(self.layout, layer, self.length, margin=0), "raw rows missing"
