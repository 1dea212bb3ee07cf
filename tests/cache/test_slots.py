"""Slots: tails go in and come out as they were, tables list pages, a long chunk's window passes through its ring."""

from __future__ import annotations

import pytest
import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.slots import ChunkRing, Slots, power_of_two
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.config.errors import ConfigError, LimitError
from tests.support.sequences import fake_read, small_config


def make(count: int = 2, pages: int = 4, **layout: object) -> tuple[PagePool, Slots]:
    shape = CacheLayout(small_config(), **layout)  # pyright: ignore[reportArgumentType]
    pool = PagePool(shape, capacity_tokens=1024, fixed=True)
    slab = pool.first_slab()
    # Whole numbers, so that adding and taking away a bias is exact.
    bias = {(s.layer, s.kind): torch.arange(s.ratio * s.width).view(s.ratio, s.width) / 64 for s in shape.partials}
    return pool, Slots(shape, {key: slab.rows(key) for key in pool.specs}, bias, count=count, pages=pages, device="cpu")


@pytest.mark.parametrize("length", [0, 1, 30, 127, 128, 131, 300])
def test_tails_come_out_as_they_went_in(length: int) -> None:
    pool, slots = make()
    state = SequenceState(pool, empty_tails(pool.layout))
    if length:
        fake_read(state, length, step=64)
    slots.load(1, state.tails, length)
    for layer, (got, given) in enumerate(zip(slots.save(1, length), state.tails, strict=True)):
        assert torch.equal(got.window, given.window), layer
        assert got.raw_first == given.raw_first
        for kind in given.raw:
            torch.testing.assert_close(got.raw[kind], given.raw[kind], rtol=0, atol=1e-5)


def test_tables_list_pages_and_stores_know_their_rows() -> None:
    pool, slots = make()
    slots.put_pages(1, [3, 0], start=1)
    assert slots.table.tolist() == [[0, 0, 0, 0], [0, 3, 0, 0]]
    layer = slots.layers()[1]
    assert sorted(layer.stores) == ["index", "main"]
    assert layer.stores["main"].rows.data_ptr() == pool.first_slab().rows((1, "main")).data_ptr()
    assert layer.stores["main"].table.tolist() == slots.table.tolist()
    assert slots.layers()[0].stores == {}
    with pytest.raises(LimitError, match="5 pages are more than the 4"):
        slots.put_pages(0, [1, 2], start=3)
    assert make(main=RowFormat.FP4)[1].layers()[1].ring.rows.shape[2] == 16 + 32 + 8  # FP8 beside FP4 entries
    with pytest.raises(ConfigError, match="main is fp64"):
        make(main=RowFormat.FP64)


def test_window_rows_pass_through_the_ring_of_a_chunk() -> None:
    pool, slots = make(count=2)
    ring, both = ChunkRing(pool.layout, 100, "cpu"), slots.layers()[0].ring
    kept = pool.layout.window_rows
    for first, count in ((0, 100), (100, 7), (107, 0), (107, 90), (197, 1)):
        slot, begin, more = torch.tensor([[1], [first], [count]])
        ring.begin(slot, begin, more, both.length)
        inner = ring.enter(both)
        for token in range(max(0, first - 31), first):
            assert int(inner.rows[0, token % inner.length, 0]) == token % 251, "the window before the chunk is there"
        for token in range(first, first + count):
            inner.rows[0, token % inner.length] = token % 251
        ring.leave(both)
    assert not both.rows[0].any(), "the other slot's rows are left alone"
    for token in range(198 - kept, 198):
        assert int(both.rows[1, token % both.length, 0]) == token % 251


def test_spare_rows_are_those_of_the_narrowest_ring() -> None:
    assert make()[1].spare == 16 - 7  # of the CSA compressor
    assert make(margin=0)[1].spare == 1  # of every ring


def test_a_slot_knows_which_rows_it_still_has() -> None:
    """Rings of 64 window rows, 16 raw rows of CSA and 256 of HCA; a window is 31 rows and the token's own."""
    pool, slots = make()
    state = SequenceState(pool, empty_tails(pool.layout))
    fake_read(state, 300, step=64)
    slots.load(1, state.tails, 300)
    assert [slots.holds(1, length) for length in (300, 292, 291)] == [True, True, False]  # as far as the tails reach
    slots.writes(1, 300, 12)
    assert [slots.holds(1, length) for length in (312, 304, 300, 296)] == [True, True, True, False]  # 8 .. 15 of CSA
    slots.writes(1, 300, 1)  # the twelve were rolled back
    assert not slots.holds(1, 296), "what was written over stays so"
    csa = slots.save(1, 301)[1]
    assert (len(csa.window), csa.raw_first["main"]) == (pool.layout.window_rows, 296)
    slots.writes(1, 301, 100, chunk=True)
    assert slots.holds(1, 400)
    assert not slots.holds(1, 390)
    assert len(slots.save(1, 401)[0].window) == pool.layout.window_rows
    slots.load(1, state.tails, 300)
    assert slots.holds(1, 300)


def test_powers_of_two() -> None:
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 135)] == [1, 1, 2, 4, 4, 8, 256]
