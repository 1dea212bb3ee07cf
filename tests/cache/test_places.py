"""Addresses of a sequence's rows: those of the tensors, found anew when pages change, coarse keys up to date."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.places import StoreAt
from octavo.cache.pool import PagedRows, PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from tests.support.tiny import tiny_config

KEY = (1, "index")


def world(main: str = "fp32", tokens: int = 1024) -> SequenceState:
    layout = CacheLayout(tiny_config(), main=RowFormat(main), index=RowFormat(main))
    state = SequenceState(PagePool(layout, capacity_tokens=512), empty_tails(layout))
    state.reserve(tokens)
    state._append_ids(np.zeros(tokens, dtype=np.int32))
    return state


def filled(state: SequenceState, first: int, count: int) -> torch.Tensor:
    values = torch.randn(count, 32)
    state.pool.write(state.runs, KEY, first, values)
    return values


def row_of(at: StoreAt, entry: int) -> np.ndarray:
    """An entry as compiled code finds it."""
    starts = np.ctypeslib.as_array((ctypes.c_int64 * at.count).from_address(at.starts))
    rows = np.ctypeslib.as_array((ctypes.c_int64 * at.count).from_address(at.rows))
    part = int(np.searchsorted(starts, entry, side="right")) - 1
    address = int(rows[part]) + (entry - int(starts[part])) * 32 * 4
    return np.ctypeslib.as_array((ctypes.c_float * 32).from_address(address))


def test_entries_are_where_they_are_said_to_be() -> None:
    state = world()
    values = filled(state, 0, 256)
    at = state.places.store(KEY)
    assert at is not None
    assert at.count == len(state.runs) > 1
    for entry in (0, 63, 64, 200, 255):
        assert np.array_equal(row_of(at, entry), values[entry].numpy())
    assert state.places.store(KEY) is at
    state.reserve(1024)
    more = state.places.store(KEY)
    assert more is not None
    assert more is not at
    assert np.array_equal(row_of(more, 200), values[200].numpy())


def test_pages_that_did_not_change_keep_their_runs() -> None:
    state = world()
    before = state.runs
    state.reserve(0)
    assert state.runs is before


def test_changes_tell_of_other_pages_alone() -> None:
    state = world()
    filled(state, 0, 256)
    before = state.places.changes
    state.places.store(KEY)
    state.places.coarse(KEY, 4, 256)
    state.reserve(0)
    assert state.places.changes == before
    state.reserve(1)
    grown = state.places.changes
    assert grown > before
    twin = state.fork()
    twin.reserve(1)
    assert state.places.changes == grown
    state._drop_pages(len(state.pages))
    assert state.places.changes > grown


@pytest.mark.parametrize("kept", ["bf16", "fp8"])
def test_rows_that_must_be_converted(kept: str) -> None:
    layout = CacheLayout(tiny_config(head_dim=80), main=RowFormat(kept), index=RowFormat(kept))
    state = SequenceState(PagePool(layout, capacity_tokens=512), empty_tails(layout))
    state.reserve(256)
    assert not state.places.plain
    assert state.places.store(KEY) is None


def test_coarse_keys_follow_what_is_written() -> None:
    state = world()
    values = filled(state, 0, 256)
    at = state.places.coarse(KEY, 4, 256)
    assert at is not None
    for block in (0, 15, 16, 63):
        np.testing.assert_allclose(row_of(at, block), values[4 * block : 4 * block + 4].mean(0).numpy(), atol=1e-6)
    assert state.places.coarse(KEY, 4, 256) is at
    again = filled(state, 100, 4)
    fresh = state.places.coarse(KEY, 4, 256)
    assert fresh is not None
    np.testing.assert_allclose(row_of(fresh, 25), again.mean(0).numpy(), atol=1e-6)
    np.testing.assert_allclose(row_of(fresh, 24), values[96:100].mean(0).numpy(), atol=1e-6)


def test_a_fork_has_places_of_its_own() -> None:
    state = world(tokens=300)
    values = filled(state, 0, 75)
    twin = state.fork()
    twin.reserve(1)  # the shared last page is copied
    filled(twin, 70, 5)
    mine, theirs = state.places.store(KEY), twin.places.store(KEY)
    assert mine is not None
    assert theirs is not None
    assert np.array_equal(row_of(mine, 70), values[70].numpy())
    assert not np.array_equal(row_of(theirs, 70), values[70].numpy())
    assert np.array_equal(row_of(theirs, 3), values[3].numpy())
    assert PagedRows(twin.pool, twin.runs, KEY, 75).where() is not None
