"""Slabs, runs and the kernels' view of paged rows, against one plain tensor."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat
from octavo.cache.pool import PagedRows, PagePool
from octavo.config.errors import LimitError
from tests.support.sequences import small_config

MAIN, INDEX, DENSE = (1, "main"), (1, "index"), (2, "main")


def make_pool(slab_pages: int, *, main: RowFormat = RowFormat.FP32, index: RowFormat = RowFormat.FP32) -> PagePool:
    return PagePool(CacheLayout(small_config(), main=main, index=index), capacity_tokens=slab_pages * PAGE_TOKENS)


def take(pool: PagePool, count: int) -> list[int]:
    return [pool.take() for _ in range(count)]


STORES = [(MAIN, "fp32"), (MAIN, "bf16"), (MAIN, "fp8"), (MAIN, "fp4"), (DENSE, "fp32")]
STORES += [(INDEX, "fp32"), (INDEX, "bf16"), (INDEX, "fp8"), (INDEX, "fp4")]


@pytest.mark.parametrize(("key", "format"), STORES)
@settings(max_examples=12)
@given(seed=st.integers(0, 1000), slab_pages=st.integers(1, 4), count=st.integers(1, 9))
def test_rows_read_as_written(key: tuple[int, str], format: str, seed: int, slab_pages: int, count: int) -> None:
    """Shuffled pages over several slabs, written in pieces: every tile and gather equals the dense rows."""
    pool = make_pool(slab_pages, **{"main" if key[1] == "main" else "index": RowFormat(format)})
    draw = torch.Generator().manual_seed(seed)
    taken = take(pool, count + 2)
    pages = [taken[i] for i in torch.randperm(count + 2, generator=draw)[:count]]
    runs = pool.runs(pages)
    assert sum(run.count for run in runs) == count
    length = count * pool.specs[key].entries_per_page - int(torch.randint(0, 2, (), generator=draw))
    values = torch.randn(length, 32, generator=draw)
    cuts = sorted({0, length, *torch.randint(0, length + 1, (3,), generator=draw).tolist()})
    for a, b in itertools.pairwise(cuts):
        pool.write(runs, key, a, values[a:b])
    rows = PagedRows(pool, runs, key, length)
    assert (rows.length, rows.width) == (length, 32)
    whole = rows.tile(0, length)
    if format == "fp32":
        assert torch.equal(whole[0], values)
    for _ in range(4):
        a, b = sorted(torch.randint(0, length + 1, (2,), generator=draw).tolist())
        assert torch.equal(rows.tile(a, b), whole[:, a:b])
    index = torch.randint(0, length, (1, 5, 7), generator=draw)
    assert torch.equal(rows.gather(index), whole[0][index])


def test_an_empty_sequence_has_an_empty_tile() -> None:
    pool = make_pool(1)
    assert PagedRows(pool, [], MAIN, 0).tile(0, 0).shape == (1, 0, 32)


def test_neighbours_form_one_run_but_not_across_slabs() -> None:
    pool = make_pool(3)
    pages = take(pool, 6)
    assert [(run.start, run.count) for run in pool.runs(pages)] == [(0, 3), (3, 3)]
    assert [(run.start, run.count, run.page) for run in pool.runs([1, 2, 0])] == [(0, 2, 1), (2, 1, 0)]
    assert pool.runs(pages, pool.runs(pages[:4])) == pool.runs(pages)


def test_memory_grows_by_slabs_and_is_used_again() -> None:
    pool = make_pool(2)
    assert pool.nbytes == 0
    pages = take(pool, 3)
    assert pool.nbytes == 4 * pool.layout.page_bytes
    pool.release(pages)
    assert take(pool, 3) == pages
    assert pool.nbytes == 4 * pool.layout.page_bytes


def test_a_full_pool_that_must_not_grow_asks_for_pages_back() -> None:
    pool = PagePool(make_pool(1).layout, capacity_tokens=2 * PAGE_TOKENS, fixed=True)
    held, asked = take(pool, 2), []
    pool.relieve = asked.append
    with pytest.raises(LimitError, match="all 2 pages are in use"):
        pool.take()
    pool.relieve = lambda pages: pool.release([held.pop()])
    assert pool.take() == 1
    assert (len(held), len(asked)) == (1, 1)


def test_copying_a_page_takes_every_store() -> None:
    pool = make_pool(2)
    a, b, c = take(pool, 3)
    for key in pool.specs:
        pool.locate(a)[0].rows(key)[:] = 7
        pool.locate(c)[0].rows(key)[:] = 0
    pool.copy_page(a, c)
    for key, spec in pool.specs.items():
        slab, place = pool.locate(c)
        n = spec.entries_per_page
        assert (slab.rows(key)[place * n : (place + 1) * n] == 7).all()


def test_writing_beyond_the_pages_is_refused() -> None:
    pool = make_pool(1)
    runs = pool.runs(take(pool, 1))
    with pytest.raises(AssertionError, match="beyond the reserved pages"):
        pool.write(runs, MAIN, 60, torch.zeros(5, 32))


def test_pages_taken_in_inference_mode_can_be_written_outside() -> None:
    pool = make_pool(1)
    with torch.inference_mode():
        runs = pool.runs(take(pool, 1))
    pool.write(runs, MAIN, 0, torch.ones(2, 32))
    assert (PagedRows(pool, runs, MAIN, 2).tile(0, 2) == 1).all()


def test_adopted_pages_are_loaded_when_first_read_and_once() -> None:
    pool, calls = make_pool(1), []

    def load(key: tuple[int, str]) -> torch.Tensor:
        calls.append(key)
        return torch.full((2 * pool.specs[key].entries_per_page, pool.specs[key].row_bytes), 3, dtype=torch.uint8)

    pages = list(pool.adopt(load, 2))
    rows = PagedRows(pool, pool.runs(pages), MAIN, 128)
    assert calls == []
    rows.tile(0, 3)
    rows.gather(torch.tensor([[[100]]]))
    assert calls == [MAIN]
    assert (pool.nbytes, pool.adopted_bytes) == (0, 2 * pool.layout.page_bytes)
    pool.release(pages)
    assert pool.adopted_bytes == 0


def test_adopted_rows_of_another_shape_are_refused() -> None:
    pool = make_pool(1)
    pages = list(pool.adopt(lambda key: torch.zeros(3, 3, dtype=torch.uint8), 1))
    with pytest.raises(ValueError, match=r"store \(1, 'main'\): shape \(3, 3\), expected \(64, 128\)"):
        PagedRows(pool, pool.runs(pages), MAIN, 1).tile(0, 1)
