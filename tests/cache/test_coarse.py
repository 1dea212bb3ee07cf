"""Means beside the pages follow what is written, wherever the pages lie and whoever shares them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octavo.cache import coarse
from octavo.cache.coarse import PageMeans
from octavo.cache.pool import PagedRows
from octavo.cache.state import SequenceState
from octavo.kernels.index_topk import scan
from octavo.kernels.index_topk.packed import LANES, PackedKeys
from tests.support.sequences import World, token_ids

KEY = (1, "index")
sizes = pytest.mark.parametrize("size", [1, 4])


def rows_of(state: SequenceState) -> PagedRows:
    return PagedRows(state.pool, state.runs, KEY, state.length // 4)


def by_key(held: PackedKeys, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes [count, J / 2] and scales of keys that lie in groups of 16."""
    groups = held.bytes.reshape(len(held.bytes) // LANES, -1, LANES, 4).transpose(0, 2, 1, 3)
    some = slice(first, first + count)
    return groups.reshape(len(held.bytes), -1)[some], held.numbers[0, some]


def assert_means(state: SequenceState, size: int) -> None:
    """Means, and where they are kept in four bits these, are those of what the pages hold now."""
    rows = rows_of(state)
    whole = rows.length // size * size
    tile = rows.tile(0, whole)[0]
    wanted = (tile if tile.dtype == torch.float64 else tile.float()).unflatten(0, (-1, size)).mean(1)
    torch.testing.assert_close(rows.means(size)[0], wanted, rtol=0, atol=0)
    above = rows.coarse(size)
    for part, start, stop in zip(above.parts, above.starts[:-1], above.starts[1:], strict=True):
        assert (part.packed is None) == (not scan.packs(wanted.shape[1], wanted.dtype, wanted.device))
        if part.packed is not None:
            fresh = PackedKeys(stop - start, wanted.shape[1])
            scan.pack(wanted[start:stop].contiguous(), 0, stop - start, fresh)
            for kept, made in zip(by_key(part.packed, part.first, stop - start), by_key(fresh, 0, stop - start),
                                  strict=True):  # fmt: skip
                np.testing.assert_array_equal(kept, made)


@sizes
@pytest.mark.parametrize("index", ["fp32", "bf16", "fp8", "fp4", "fp64"])
def test_means_grow_with_the_sequence(index: str, size: int) -> None:
    world = World(slab_tokens=512, index=index)  # two pages a slab: several runs
    state = world.new_state()
    assert rows_of(state).means(size).shape[1] == 0
    for count in (30, 1, 250, 700, 4):
        world.read(token_ids(count, seed=count), state)
        assert_means(state, size)


@sizes
@pytest.mark.parametrize("index", ["fp32", "fp8"])
def test_rolled_back_and_written_again(index: str, size: int) -> None:
    world = World(index=index)
    state = world.new_state()
    world.read(token_ids(300), state)
    assert_means(state, size)
    state.rollback(40)
    assert_means(state, size)
    world.read(token_ids(40, seed=9), state)
    assert_means(state, size)


@sizes
@pytest.mark.parametrize("index", ["fp32", "fp8"])
def test_forks_do_not_share_what_they_write(index: str, size: int) -> None:
    world = World(index=index)
    state = world.new_state()
    world.read(token_ids(300), state)
    assert_means(state, size)
    twin = state.fork()
    world.read(token_ids(60, seed=1), state)
    world.read(token_ids(60, seed=2), twin)
    assert_means(state, size)
    assert_means(twin, size)


@sizes
@pytest.mark.parametrize("index", ["fp32", "fp8"])
def test_a_page_that_was_given_back_is_new(index: str, size: int) -> None:
    world = World(index=index)
    state = world.new_state()
    world.read(token_ids(512), state)
    assert_means(state, size)
    state.close()
    other = world.new_state()
    world.read(token_ids(512, seed=5), other)
    assert_means(other, size)


@pytest.mark.parametrize(("index", "there"), [("fp32", True), ("fp64", True), ("bf16", False), ("fp4", False)])
def test_entries_are_not_held_twice(index: str, there: bool) -> None:
    """Blocks of one entry have that entry's key: it is read where it lies, or decoded when it is asked for."""
    world = World(index=index)
    state = world.new_state()
    world.read(token_ids(300), state)
    assert_means(state, 1)
    [slab] = {id(run.slab): run.slab for run in state.runs}.values()
    values = slab.means[KEY].values
    assert (values is not None) == there
    if values is not None:
        assert values.untyped_storage().data_ptr() == slab.rows(KEY).untyped_storage().data_ptr()


def test_only_what_is_missing_is_computed() -> None:
    means, asked = PageMeans(16, 4, 2, torch.device("cpu"), torch.float32), []

    def rows(a: int, b: int) -> torch.Tensor:
        asked.append((a, b))
        return torch.arange(a, b).float().unsqueeze(1).expand(-1, 2)

    means.fill(0, 8, rows)
    means.fill(0, 8, rows)
    means.fill(0, 16, rows)
    means.forget(5, 6)
    means.fill(0, 16, rows)
    assert asked == [(0, 8), (8, 16), (4, 8)]
    assert means.values is not None
    assert means.values[:, 0].tolist() == [1.5, 5.5, 9.5, 13.5]


def test_entries_are_packed_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the group on in which the first of them lies, so that codes are where they belong."""
    device, entries = torch.device("cpu"), torch.randn(100, 8)
    if not scan.packs(8, torch.float32, device):
        pytest.skip("the package was built without a compiler, or for another processor")
    monkeypatch.setattr(coarse, "_PIECE", 32)
    means, asked = PageMeans(100, 1, 8, device, torch.float32), []

    def rows(a: int, b: int) -> torch.Tensor:
        asked.append((a, b))
        return entries[a:b].bfloat16()

    for stop in (21, 100):
        means.fill(0, stop, rows)
    means.forget(70, 71)
    means.fill(0, 100, rows)
    assert asked == [(0, 21), (16, 48), (48, 80), (80, 100), (64, 71)]
    wanted = PackedKeys(100, 8)
    scan.pack(entries.bfloat16().float(), 0, 100, wanted)
    assert means.packed is not None
    for kept, made in zip(by_key(means.packed, 0, 100), by_key(wanted, 0, 100), strict=True):
        np.testing.assert_array_equal(kept, made)
