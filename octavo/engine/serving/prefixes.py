"""States that begin a prompt, kept in memory for the next job that begins the same way.

Covers: names of beginnings (`Trail`), where forks are worth keeping (`points`), keeping, finding and giving them up
(`Prefixes`). Does not cover: the disk (`shelf`), documents (`library`), locks: the caller holds one.

A kept state is a fork: its pages are shared and its tails are values, so a hit goes on exactly as the state would have.
What is given up first has the least of

    value = clock at last use + min(1 + hits, 16) * cost / size

cost: tokens to read again, those behind the next shorter kept point of the same beginning. size: pages that giving it
up frees; where bytes are wanted instead of pages, its tails too, as parts of a page. The clock moves up to the value of
whatever was given up last, so the unused grow old (GreedyDual-Size with frequency). A long beginning that nobody asked
for again does not drive out a short one that many jobs share.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from octavo.cache.state import SNAPSHOT_TOKENS, SequenceState

DIGEST_BYTES = 16
_MOST_USES = 16  # so that what was popular once grows old too

Key = tuple[int, bytes]
"""Length of a beginning in tokens, and its digest."""


def points(start: int, stop: int, *, chunk: int) -> tuple[int, ...]:
    """Lengths in (start, stop], ascending, at which a fork is worth keeping while tokens start .. stop - 1 are read.

    The last multiple of `chunk`; every 4,096 tokens (rounded up to a multiple of `chunk`); and powers of two times
    `chunk` behind `start`, since short beginnings are shared most. At most log2(n / chunk) + n / 4096 + 2 of them.
    """
    first, last = start // chunk * chunk, stop // chunk * chunk
    step = -(-SNAPSHOT_TOKENS // chunk) * chunk
    found = {last, *range(start // step * step + step, stop + 1, step)}
    power = chunk
    while first + power <= stop:
        found.add(first + power)
        power *= 2
    return tuple(sorted(length for length in found if start < length <= stop))


@dataclass(frozen=True, slots=True)
class Trail:
    """The beginnings of one sequence that end at multiples of `chunk` tokens behind `base`, by digest.

    Each digest covers the root and all tokens from `base` to the end of the beginning; what lies before `base` is named
    by the root. `packed`: the digests one after the other, the shortest beginning first.
    """

    base: int
    chunk: int
    packed: bytes

    @classmethod
    def of(cls, root: str, ids: np.ndarray, *, base: int, chunk: int) -> Trail:
        """The trail of `ids`, the whole sequence's; those before `base` are not looked at."""
        return Naming(root, ids, base=base, chunk=chunk).upto(len(ids))

    def __iter__(self) -> Iterator[Key]:
        """Lengths and digests, the longest beginning first."""
        first = self.base // self.chunk + 1
        for place in reversed(range(len(self.packed) // DIGEST_BYTES)):
            digest = self.packed[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]
            yield (first + place) * self.chunk, digest


class Naming:
    """Trails of the beginnings of one sequence, shorter ones first: what was hashed is not hashed again."""

    def __init__(self, root: str, ids: np.ndarray, *, base: int, chunk: int) -> None:
        """Arguments as of `Trail.of`; `ids` is left alone meanwhile."""
        named = root.encode()
        self._running = blake2b(len(named).to_bytes(8, "little") + named + base.to_bytes(8, "little"))
        self._rest = np.ascontiguousarray(ids[base:], dtype="<i4")
        self._base, self._chunk, self._first = base, chunk, chunk - base % chunk
        self._at, self._digests = 0, bytearray()

    def upto(self, length: int) -> Trail:
        """The trail of the first `length` tokens of the sequence."""
        there, end = min(length - self._base, len(self._rest)), self._at + self._chunk if self._at else self._first
        for stop in range(end, there + 1, self._chunk):
            self._running.update(self._rest[self._at : stop].tobytes())
            self._digests += self._running.digest()[:DIGEST_BYTES]
            self._at = stop
        count = max(there - self._first + self._chunk, 0) // self._chunk
        return Trail(self._base, self._chunk, bytes(self._digests[: count * DIGEST_BYTES]))


def worth(clock: float, hits: int, cost: float, size: float) -> float:
    """The value of the module docstring."""
    return clock + min(1 + hits, _MOST_USES) * cost / size


@dataclass(eq=False, slots=True)
class _Kept:
    """A state and what its value is made of."""

    family: tuple[str, int]
    key: Key
    trail: Trail
    state: SequenceState
    clock: float
    used: int  # order of last use; of equal values the oldest goes first
    hits: int = 0

    @property
    def fixed_bytes(self) -> int:
        """Bytes besides pages: tails and token ids."""
        return sum(tail.nbytes for tail in self.state.tails) + 4 * self.state.length


class Prefixes:
    """Forks by the tokens that they have read; see the module docstring. Not safe for several threads at once.

    `chunk`: kept states end at multiples of so many tokens, counted from the sequence's beginning. `queries`, `hits`,
    `hit_tokens` and `evicted` (states) are totals.
    """

    def __init__(self, *, chunk: int = 256) -> None:
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; it must be at least 1")
        self.chunk = chunk
        self.queries = self.hits = self.hit_tokens = self.evicted = 0
        self._families: dict[tuple[str, int], dict[Key, _Kept]] = {}  # by root and base
        self._held: dict[int, int] = {}  # by page how many kept states hold it
        self._forking: _Kept | None = None  # is not given up, should its fork need room
        self._clock, self._uses = 0.0, 0

    def __len__(self) -> int:
        return sum(len(family) for family in self._families.values())

    def add(self, root: str, state: SequenceState, *, base: int = 0, trail: Trail | None = None) -> None:
        """Keep a fork of `state` as it is now. An equal one that is kept already counts as used instead.

        root: what tells apart sequences that must not share, and names the first `base` tokens (a document). The length
        must be a multiple of `chunk` above `base`: ValueError otherwise. trail: of the state's tokens, where known.
        """
        if state.length <= base or state.length % self.chunk:
            raise ValueError(f"the state has {state.length} tokens; a multiple of {self.chunk} above {base} is needed")
        trail = trail or Trail.of(root, state.tokens, base=base, chunk=self.chunk)
        key = next(iter(trail))
        kept = self._families.get((root, base), {}).get(key)
        if kept is None:
            kept = _Kept((root, base), key, trail, state.fork(), self._clock, 0)  # which may give others up
            self._families.setdefault((root, base), {})[key] = kept
            for page in kept.state.pages:
                self._held[page] = self._held.get(page, 0) + 1
        self._use(kept)

    def find(self, root: str, ids: np.ndarray, *, base: int = 0, most: int) -> SequenceState | None:
        """A fork of the longest kept state that begins `ids` (the whole sequence's), of at most `most` tokens.

        The caller closes it. Give at most len(ids) - 1, so that a token is left whose logits begin the answer.
        """
        self.queries += 1
        family = self._families.get((root, base))
        if family is None:
            return None
        trail = Trail.of(root, ids[: max(most, 0)], base=base, chunk=self.chunk)
        for key in trail:
            kept = family.get(key)
            if kept is None or not np.array_equal(kept.state.tokens[base:], ids[base : key[0]]):
                continue
            kept.hits += 1
            self._use(kept)
            self.hits, self.hit_tokens = self.hits + 1, self.hit_tokens + key[0] - base
            return self._fork(kept)
        return None

    def _fork(self, kept: _Kept) -> SequenceState:
        self._forking = kept
        try:
            return kept.state.fork()
        finally:
            self._forking = None

    def pages(self) -> int:
        """Pages that would become free if everything here were given up: nobody else holds them."""
        kept = next((kept for family in self._families.values() for kept in family.values()), None)
        return 0 if kept is None else kept.state.pool.allocator.alone(self._held)

    def holders(self) -> Counter[int]:
        """Pages that kept states hold, each with how many hold it."""
        return Counter(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes that giving up everything would free: those pages, all tails and token ids."""
        kept = self._all()
        pages = self.pages() * kept[0].state.layout.page_bytes if kept else 0
        return pages + sum(each.fixed_bytes for each in kept)

    def evict(self, pages: int) -> int:
        """Give up the least valuable states whose end frees pages, until about `pages` became free; how many did."""
        freed = 0
        waiting = self._by_value(tails=False)
        while freed < pages and waiting:
            value, _, kept = heapq.heappop(waiting)
            freed += self._give_up(kept, value)
            before = self._before(kept)
            may_go = before is not None and before is not self._forking and self._gain(before)
            if before is not None and may_go and all(each[2] is not before for each in waiting):
                heapq.heappush(waiting, (self._value(before, tails=False), before.used, before))
        return freed

    def shrink(self, nbytes: int) -> int:
        """Give up the least valuable states, tails and all, until `nbytes` or fewer are held; the pages freed."""
        freed, held = 0, self.nbytes
        waiting = self._by_value(tails=True) if held > nbytes else []
        while waiting and held > nbytes:
            value, _, kept = heapq.heappop(waiting)
            pages, fixed = self._give_up(kept, value), kept.fixed_bytes
            freed, held = freed + pages, held - fixed - pages * kept.state.layout.page_bytes
        return freed

    def clear(self, root: str | None = None) -> None:
        """Give up everything, or all under one root (its document is gone)."""
        for kept in self._all():
            if root is None or kept.family[0] == root:
                self._drop(kept)

    def check_integrity(self) -> None:
        """Every kept state is whole, of the length and under the name that it is found by."""
        for family, members in self._families.items():
            assert members, "an empty family is kept"
            for key, kept in members.items():
                kept.state.check_integrity()
                assert (kept.family, kept.key) == (family, key), "a state is kept under another's name"
                assert kept.state.length == key[0], "a kept state was changed"
                assert next(iter(kept.trail)) == key, "a kept state is not what its trail says"
        held = Counter(page for kept in self._all() for page in kept.state.pages)
        assert held == self._held, "pages of kept states are miscounted"

    # -- giving up ---------------------------------------------------------------------------------------------------

    def _all(self) -> list[_Kept]:
        return [kept for family in self._families.values() for kept in family.values()]

    def _by_value(self, *, tails: bool) -> list[tuple[float, int, _Kept]]:
        """A heap of the states; without `tails`, of those alone whose end frees pages."""
        some = [each for each in self._all() if each is not self._forking and (tails or self._gain(each))]
        heap = [(self._value(each, tails=tails), each.used, each) for each in some]
        heapq.heapify(heap)
        return heap

    def _before(self, kept: _Kept) -> _Kept | None:
        """The next shorter kept state of the same beginning."""
        family = self._families.get(kept.family, {})
        shorter = (family.get(key) for key in kept.trail if key[0] < kept.key[0])
        return next((each for each in shorter if each is not None), None)

    def _gain(self, kept: _Kept) -> int:
        """Pages that this state alone holds. Forks share from the front, so they are its last ones."""
        gain, allocator = 0, kept.state.pool.allocator
        for page in reversed(kept.state.pages):
            if not allocator.writable(page):
                break
            gain += 1
        return gain

    def _value(self, kept: _Kept, *, tails: bool) -> float:
        before = self._before(kept)
        cost = kept.key[0] - (kept.family[1] if before is None else before.key[0])
        size = self._gain(kept) + (kept.fixed_bytes / max(kept.state.layout.page_bytes, 1) if tails else 0)
        return worth(kept.clock, kept.hits, cost, size)

    def _use(self, kept: _Kept) -> None:
        self._uses += 1
        kept.clock, kept.used = self._clock, self._uses

    def _give_up(self, kept: _Kept, value: float) -> int:
        free = kept.state.pool.allocator.free
        self._clock = max(self._clock, value)
        self.evicted += 1
        self._drop(kept)
        return kept.state.pool.allocator.free - free

    def _drop(self, kept: _Kept) -> None:
        family = self._families[kept.family]
        del family[kept.key]
        if not family:
            del self._families[kept.family]
        for page in kept.state.pages:
            self._held[page] -= 1
            if not self._held[page]:
                del self._held[page]
        kept.state.close()
