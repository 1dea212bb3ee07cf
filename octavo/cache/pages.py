"""Page accounting in integers.

Covers: which pages are free, and how many sequences hold each page. Does not cover: what a page contains
(`octavo.cache.pool`), prefix lookup.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from octavo.config.errors import LimitError


class PageAllocator:
    """Hands out page numbers and counts their holders; a page without holders is free again.

    Adopted pages (read-only, e.g. memory-mapped) are numbered from the same range but never return to the free list.
    Every call holds `lock`, so that sequences of one pool may run on several threads.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._free: list[int] = []
        self._holders: dict[int, int] = {}
        self._adopted: set[int] = set()
        self.total = 0

    def add(self, count: int, *, adopted: bool = False) -> range:
        """Register `count` new pages; returns their numbers. Adopted pages start with one holder."""
        with self.lock:
            pages = range(self.total, self.total + count)
            self.total += count
            if adopted:
                self._adopted.update(pages)
                self._holders.update((p, 1) for p in pages)
            else:
                self._free.extend(reversed(pages))
            return pages

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        """Pages that someone holds, adopted ones left out."""
        with self.lock:
            return len(self._holders) - len(self._adopted)

    def holders(self, page: int) -> int:
        """How many hold the page, 0 for a free one."""
        return self._holders.get(page, 0)

    def take(self) -> int:
        """One free page, held once. Raises LimitError when none is left."""
        with self.lock:
            if not self._free:
                raise LimitError(f"cache pages: all {self.total} pages are in use")
            page = self._free.pop()
            self._holders[page] = 1
            return page

    def hold(self, pages: Iterable[int]) -> None:
        """One more holder for each page."""
        with self.lock:
            for page in pages:
                self._holders[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """One holder less for each page; pages without holders become free (adopted ones are retired).

        They are freed last first, so that the next sequence takes them in ascending order and side by side.
        """
        with self.lock:
            for page in reversed(pages):
                left = self._holders[page] - 1
                if left:
                    self._holders[page] = left
                    continue
                del self._holders[page]
                if page in self._adopted:
                    self._adopted.discard(page)
                else:
                    self._free.append(page)

    def held(self, page: int) -> bool:
        """Whether any sequence holds the page."""
        return page in self._holders

    def writable(self, page: int) -> bool:
        """Whether a single holder may write into the page."""
        return page not in self._adopted and self._holders[page] == 1

    def alone(self, counts: Mapping[int, int]) -> int:
        """How many of the pages nobody holds but so often as `counts` says; adopted ones left out."""
        with self.lock:
            held, adopted = self._holders, self._adopted
            return sum(held.get(page) == count and page not in adopted for page, count in counts.items())

    def check_integrity(self) -> None:
        """Free and held pages are disjoint, in range, and every holder count is positive."""
        with self.lock:
            free = set(self._free)
            assert len(free) == len(self._free), "a page is free twice"
            assert not free & set(self._holders), "a page is both free and held"
            assert all(0 <= p < self.total for p in free | set(self._holders)), "page number out of range"
            assert all(n > 0 for n in self._holders.values()), "a held page has no holder"
