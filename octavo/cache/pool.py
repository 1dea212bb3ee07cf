"""The tensors behind the pages.

Covers: slabs (for each layer and kind one byte tensor of entry rows), writing, copying a page, and `PagedRows`, the
kernels' view of a sequence's entries. Does not cover: who holds a page (`pages`), the sequence's tails (`state`).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from octavo.cache import codec
from octavo.cache.coarse import PageMeans
from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat, StoreSpec
from octavo.cache.pages import PageAllocator
from octavo.kernels.index_topk.packed import Made, Part, PartRows
from octavo.kernels.memory import will_be_large
from octavo.kernels.rows import Stretches

StoreKey = tuple[int, str]
_RELIEF = 64  # pages asked for at a time

LoadRows = Callable[[StoreKey], Tensor]
"""Gives the rows of one store of read-only pages, [pages * entries_per_page, row_bytes] uint8, when first needed."""


@dataclass(frozen=True)
class Slab:
    """`count` consecutive pages from number `first`; `stores[key]` is [count * entries_per_page, row_bytes] uint8.

    With `load` the pages are adopted (read-only, they live elsewhere) and `stores` fills as they are used. `means` are
    the coarse keys that two-level selection has asked for.
    """

    first: int
    count: int
    stores: dict[StoreKey, Tensor]
    load: LoadRows | None = None
    means: dict[StoreKey, PageMeans] = field(default_factory=dict)

    @property
    def adopted(self) -> bool:
        return self.load is not None

    def rows(self, key: StoreKey) -> Tensor:
        """All rows of one store."""
        rows = self.stores.get(key)
        if rows is None:
            assert self.load is not None, f"no store {key}"
            rows = self.stores[key] = self.load(key)
        return rows


@dataclass(frozen=True)
class Run:
    """Pages of a sequence that lie one after the other in one slab: sequence pages start .. start + count - 1."""

    start: int
    count: int
    slab: Slab
    page: int  # the first page's place inside the slab


class PagePool:
    """All pages of one model on one device.

    Memory grows by slabs of `slab_pages` pages when none is free. On CPU the operating system commits a slab's memory
    only where it is written, 2 MB at a time, so a large slab costs little before it is used. With `fixed` there is one
    slab, made when it is first used, which holds all that is not adopted: a GPU's kernels read one tensor a store.
    """

    def __init__(
        self, layout: CacheLayout, *, capacity_tokens: int, device: torch.device | str = "cpu", fixed: bool = False
    ) -> None:
        self.layout, self.fixed = layout, fixed
        self.device = torch.device(device)
        self.specs: dict[StoreKey, StoreSpec] = {(s.layer, s.kind): s for s in layout.stores}
        self.slab_pages = max(1, -(-capacity_tokens // PAGE_TOKENS))
        self.allocator = PageAllocator()
        self._slabs: list[Slab] = []
        self.relieve: Callable[[int], object] | None = None
        """What a pool that must not grow calls when it is full, to have about so many pages given back."""

    @property
    def nbytes(self) -> int:
        """Bytes of all slabs, as allocated; adopted pages are not among them."""
        return sum(t.nbytes for slab in self._slabs if not slab.adopted for t in slab.stores.values())

    @property
    def adopted_bytes(self) -> int:
        """Bytes of the adopted pages, which live elsewhere."""
        return sum(slab.count * self.layout.page_bytes for slab in self._slabs if slab.adopted)

    def take(self) -> int:
        """A free page; LimitError where the pool must not grow, has none, and `relieve` frees none."""
        relieve = self.relieve  # another thread may take it away
        if relieve is not None and self.fixed and self._slabs and not self.allocator.free:
            relieve(_RELIEF)
        with self.allocator.lock:
            if not self.allocator.free and not (self.fixed and self._slabs):
                self._grow()
            return self.allocator.take()

    def first_slab(self) -> Slab:
        """The slab of page 0, writable; made if there is none yet."""
        with self.allocator.lock:
            if not self._slabs:
                self._grow()
            return self._slabs[0]

    def _grow(self) -> None:
        stores = {}
        with torch.inference_mode(False):  # a slab made in inference mode could be written nowhere else
            for key, spec in self.specs.items():
                rows = self.slab_pages * spec.entries_per_page
                stores[key] = torch.empty(rows, spec.row_bytes, dtype=torch.uint8, device=self.device)
        will_be_large(stores.values())
        pages = self.allocator.add(self.slab_pages)
        self._slabs.append(Slab(pages.start, self.slab_pages, stores))

    def adopt(self, load: LoadRows, count: int) -> range:
        """Register read-only pages that live elsewhere; the caller is their first holder.

        `load` is called once for a store, when one of its rows is first read; what it raises reaches the reader.
        """

        def checked(key: StoreKey) -> Tensor:
            spec, rows = self.specs[key], load(key)
            expected = (count * spec.entries_per_page, spec.row_bytes)
            if tuple(rows.shape) != expected:
                raise ValueError(f"pages of store {key}: shape {tuple(rows.shape)}, expected {expected}")
            return rows.to(self.device)

        if self.fixed:
            self.first_slab()  # its pages come first
        with self.allocator.lock:
            pages = self.allocator.add(count, adopted=True)
            self._slabs.append(Slab(pages.start, count, {}, load=checked))
        return pages

    def release(self, pages: list[int]) -> None:
        """Give pages back; slabs of retired read-only pages are dropped, so that their memory can be unmapped."""
        with self.allocator.lock:
            self.allocator.release(pages)
            held = self.allocator.held
            if any(slab.adopted for slab in self._slabs):
                self._slabs = [
                    s for s in self._slabs if not s.adopted or any(held(p) for p in range(s.first, s.first + s.count))
                ]

    def locate(self, page: int) -> tuple[Slab, int]:
        """The slab of a page and the page's place in it."""
        slabs = self._slabs  # replaced as a whole, so that another thread's release does not matter
        slab = slabs[bisect.bisect_right(slabs, page, key=lambda s: s.first) - 1]
        assert slab.first <= page < slab.first + slab.count, f"page {page} is in no slab"
        return slab, page - slab.first

    def runs(self, pages: list[int], known: list[Run] | None = None) -> list[Run]:
        """Consecutive pages of a sequence merged into runs; `known` are the runs of a prefix of `pages`."""
        runs = list(known or [])
        place = runs[-1].start + runs[-1].count if runs else 0
        while place < len(pages):
            page = pages[place]
            slab, inner = self.locate(page)
            most, count = min(slab.count - inner, len(pages) - place), 1
            while count < most and pages[place + count] == page + count:
                count += 1
            last = runs[-1] if runs else None
            if last is not None and last.slab is slab and last.page + last.count == inner:
                runs[-1] = Run(last.start, last.count + count, slab, last.page)
            else:
                runs.append(Run(place, count, slab, inner))
            place += count
        return runs

    def copy_page(self, source: int, target: int) -> None:
        self.copy_run(self.runs([source])[0], [target])

    def copy_run(self, run: Run, pages: list[int]) -> None:
        """Copy the pages of a run to `pages`, writable ones, by as many at a time as lie together."""
        for target in self.runs(pages):
            source = run.page + target.start
            for key, spec in self.specs.items():
                n = spec.entries_per_page
                rows = run.slab.rows(key)[source * n : (source + target.count) * n]
                target.slab.stores[key][target.page * n : (target.page + target.count) * n] = rows
                if key in target.slab.means:
                    target.slab.means[key].forget(target.page * n, (target.page + target.count) * n)

    def write(self, runs: list[Run], key: StoreKey, first: int, values: Tensor) -> None:
        """Store entries first .. first + n - 1 of a sequence, values [n, width]."""
        spec = self.specs[key]
        rows = codec.encode(values, format=spec.format, kind=spec.kind, rope_dims=self.layout.rope_dims)
        for run, slot, a, b in self._parts(runs, key, first, len(rows)):
            run.slab.stores[key][slot : slot + b - a] = rows[a - first : b - first]
        self.written(runs, key, first, len(rows))

    def written(self, runs: list[Run], key: StoreKey, first: int, count: int) -> None:
        """Entries first .. first + count - 1 of a sequence are others now: what was derived from them is forgotten."""
        for run, slot, a, b in self._parts(runs, key, first, count):
            if key in run.slab.means:
                run.slab.means[key].forget(slot, slot + b - a)

    def _parts(self, runs: list[Run], key: StoreKey, first: int, count: int) -> list[tuple[Run, int, int, int]]:
        """The entries first .. first + count - 1 by run: run, slot of the first there, and the range of entries."""
        spec, found, done = self.specs[key], [], 0
        for run in reversed(runs):
            lo, hi = run.start * spec.entries_per_page, (run.start + run.count) * spec.entries_per_page
            a, b = max(first, lo), min(first + count, hi)
            if hi <= first:
                break
            if a < b:
                found.append((run, run.page * spec.entries_per_page + a - lo, a, b))
                done += b - a
        assert done == count, "entries beyond the reserved pages"
        return found


class PagedRows:
    """Entries 0..length-1 of one sequence and store, as the kernels read them (batch of one)."""

    def __init__(self, pool: PagePool, runs: list[Run], key: StoreKey, length: int) -> None:
        self._spec, self._runs, self._key = pool.specs[key], runs, key
        self._rope_dims, self._device = pool.layout.rope_dims, pool.device
        self._length = length

    @property
    def length(self) -> int:
        return self._length

    @property
    def width(self) -> int:
        return self._spec.width

    @property
    def together(self) -> bool:
        return len(self._runs) == 1 and self._spec.format is RowFormat.FP32

    def where(self) -> Stretches | None:
        if self._spec.format is not RowFormat.FP32 or self._device.type != "cpu":
            return None
        n, size = self._spec.entries_per_page, self._spec.row_bytes
        stores = [run.slab.rows(self._key) for run in self._runs]
        if not all(store.is_contiguous() for store in stores):
            return None
        at = [store.data_ptr() + run.page * n * size for store, run in zip(stores, self._runs, strict=True)]
        return Stretches([run.start * n for run in self._runs], at)

    def _decode(self, rows: Tensor) -> Tensor:
        spec = self._spec
        return codec.decode(rows, format=spec.format, kind=spec.kind, width=spec.width, rope_dims=self._rope_dims)

    def tile(self, start: int, stop: int) -> Tensor:
        n = self._spec.entries_per_page
        if len(self._runs) == 1:
            run = self._runs[0]
            shift = (run.page - run.start) * n
            return self._decode(run.slab.rows(self._key)[start + shift : stop + shift]).unsqueeze(0)
        parts = []
        at = max(bisect.bisect_right(self._runs, start // n, key=lambda run: run.start) - 1, 0)
        while start < stop and at < len(self._runs):
            run = self._runs[at]
            b = min(stop, (run.start + run.count) * n)
            shift = (run.page - run.start) * n
            parts.append(run.slab.rows(self._key)[start + shift : b + shift])
            start, at = b, at + 1
        if not parts:
            none = torch.empty(0, self._spec.row_bytes, dtype=torch.uint8, device=self._device)
            return self._decode(none).unsqueeze(0)
        return self._decode(parts[0] if len(parts) == 1 else torch.cat(parts)).unsqueeze(0)

    def gather(self, index_BSk: Tensor) -> Tensor:
        flat = index_BSk.reshape(-1)
        if len(self._runs) == 1:
            rows = self._select(self._runs[0], flat)
        else:
            rows = self._gather_runs(flat)
        if self._spec.format not in codec.PLAIN:
            rows = self._decode(rows)
        return rows.view(*index_BSk.shape, self._spec.width)

    def means(self, size: int) -> Tensor:
        """Means of whole runs of `size` entries, each computed once for all sequences that share the page."""
        return self.coarse(size).tile(0, self._length // size)

    def coarse(self, size: int) -> PartRows:
        """The means as rows, where they lie; of single entries, those that are stored shorter are decoded when read."""
        count, n, parts = self._length // size, self._spec.entries_per_page, []
        for run in self._runs:
            lo = run.start * n
            stop = min(count * size, lo + run.count * n) - lo
            if stop <= 0:
                break
            slab, slot = run.slab, run.page * n
            if self._key not in slab.means:
                whole = size == 1 and self._spec.format in (RowFormat.FP32, RowFormat.FP64)
                single = self._decode(slab.rows(self._key)) if whole else None
                slab.means[self._key] = PageMeans(slab.count * n, size, self.width, self._device, self._wide, single)
            held = slab.means[self._key]
            assert held.size == size, f"means of {size} entries were asked for where those of {held.size} are held"
            held.fill(slot, slot + stop, lambda a, b, slab=slab: self._decode(slab.rows(self._key)[a:b]))
            first, end = slot // size, (slot + stop) // size
            values = self._made(slab, first, end) if held.values is None else held.values[first:end]
            parts.append(Part(values, held.packed, first))
        return PartRows(parts, self.width, self._wide, self._device)

    def _made(self, slab: Slab, first: int, end: int) -> Made:
        """The entries first .. end - 1 of a slab, decoded when they are read."""

        def rows(a: int, b: int) -> Tensor:
            return self._decode(slab.rows(self._key)[first + a : first + b]).to(self._wide)

        return Made(end - first, rows)

    @property
    def _wide(self) -> torch.dtype:
        return torch.float64 if self._spec.format is RowFormat.FP64 else torch.float32

    def _gather_runs(self, flat: Tensor) -> Tensor:
        """Rows of many runs: entries are sorted once, so that each run that is met costs one selection."""
        n = self._spec.entries_per_page
        ascending, order = flat.sort()
        starts = torch.tensor([run.start * n for run in self._runs[1:]], device=flat.device)
        bounds = [0, *torch.searchsorted(ascending, starts).tolist(), len(flat)]
        met = [(run, a, b) for run, a, b in zip(self._runs, bounds[:-1], bounds[1:], strict=True) if a < b]
        if len(met) == 1:
            return self._select(met[0][0], flat)
        parts = torch.cat([self._select(run, ascending[a:b]) for run, a, b in met])
        return torch.empty_like(parts).index_copy_(0, order, parts)

    def _select(self, run: Run, entries: Tensor) -> Tensor:
        """Stored rows of a run by entry number; typed already where that moves whole values instead of bytes."""
        store = run.slab.rows(self._key)
        if self._spec.format in codec.PLAIN:
            store = self._decode(store)
        return store.index_select(0, entries + (run.page - run.start) * self._spec.entries_per_page)
