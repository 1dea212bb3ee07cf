"""States that begin a prompt, wherever they are kept.

Covers: one face for memory (`prefixes`) and disk (`shelf`), safe for several threads; making room for pages. Does not
cover: how either keeps them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.state import SequenceState
from octavo.engine.answer import Prefix
from octavo.engine.serving.prefixes import Naming, Prefixes, Trail, points
from octavo.engine.serving.shelf import Shelf

SHELF_TOKENS = 1024
"""What is read again sooner than it is written and checked is not kept on disk."""


class Hits:
    """Both tiers of one model's service. `new_state` makes an empty state for what comes from disk."""

    page = PAGE_TOKENS

    def __init__(self, new_state: Callable[[], SequenceState], *, chunk: int, shelf: Shelf | None) -> None:
        self._new_state, self._chunk, self.shelf = new_state, chunk, shelf
        self.memory = Prefixes(chunk=chunk)
        self._lock = threading.RLock()  # a fork may want a page, and the pool then asks the same thread to make room
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="octavo-shelf")

    def points(self, start: int, stop: int) -> tuple[int, ...]:
        """Lengths at which a state is worth keeping while tokens start .. stop - 1 are read."""
        return points(start, stop, chunk=self._chunk)

    def find(
        self, root: str, ids: np.ndarray, *, base: int, most: int
    ) -> tuple[SequenceState, Prefix] | None:  # fmt: skip
        """The longest state that begins `ids` [T], of at most `most` tokens, and where it came from; the caller closes
        it. Tokens before `base` are those of the document that `root` names."""
        with self._lock:
            found = self.memory.find(root, ids, base=base, most=most)
        if self.shelf is None or base:
            return None if found is None else (found, Prefix.MEMORY)
        shelved = self.shelf.find(root, ids, most=most)
        if shelved is None or (found is not None and found.length >= shelved.length):
            return None if found is None else (found, Prefix.MEMORY)
        state = self.shelf.fetch(root, ids, most=most, new_state=self._new_state)
        if state is None or (found is not None and found.length >= state.length):
            if state is not None:
                state.close()
            return None if found is None else (found, Prefix.MEMORY)
        if found is not None:
            found.close()
        return state, Prefix.SNAPSHOT

    def naming(self, root: str, ids: np.ndarray, *, base: int) -> Naming:
        """What names the beginnings of a sequence for `add`, the shorter ones first."""
        return Naming(root, ids, base=base, chunk=self._chunk)

    def add(self, root: str, state: SequenceState, *, base: int, trail: Trail | None = None) -> None:
        """Keep a fork of the state as it is; `trail`: of its tokens, where it is known."""
        with self._lock:
            self.memory.add(root, state, base=base, trail=trail)

    def shelve(self, root: str, ids: np.ndarray, *, base: int) -> None:
        """Write the longest state that memory keeps of `ids` to disk, where that is worth it; on a thread of its own,
        since a disk may take a second for it."""
        if self.shelf is not None and not base and len(ids) >= SHELF_TOKENS:
            self._writer.submit(self._shelve, root, ids, base)

    def settle(self) -> None:
        """Return when everything that was to be written is."""
        self._writer.submit(lambda: None).result()

    def close(self) -> None:
        """Write what is to be written, and give all kept states up."""
        self._writer.shutdown(wait=True)
        self.forget()

    def _shelve(self, root: str, ids: np.ndarray, base: int) -> None:
        assert self.shelf is not None
        with self._lock:
            found = self.memory.find(root, ids, base=base, most=len(ids))
        if found is None:
            return
        try:
            if found.length >= SHELF_TOKENS:
                self.shelf.put(root, found, base=base)
        finally:
            found.close()

    def make_room(self, pages: int) -> int:
        """Give up kept states until about `pages` pages are free; how many were freed."""
        with self._lock:
            return self.memory.evict(pages)

    def shrink(self, nbytes: int) -> None:
        """Give up kept states until all of them, tails and ids included, take at most `nbytes` bytes of memory."""
        with self._lock:
            self.memory.shrink(nbytes)

    def held(self) -> int:
        """Pages that nothing but the memory tier holds."""
        with self._lock:
            return self.memory.pages()

    def holders(self) -> Counter[int]:
        """Pages that kept states hold, each with how many hold it."""
        with self._lock:
            return self.memory.holders()

    def forget(self, root: str | None = None) -> None:
        """Give up all kept states in memory, or those of one root."""
        with self._lock:
            self.memory.clear(root)
