"""Means beside the pages follow what is written, wherever the pages lie and whoever shares them."""

from __future__ import annotations

import pytest
import torch

from octavo.cache.coarse import PageMeans
from octavo.cache.pool import PagedRows
from octavo.cache.state import SequenceState
from tests.support.sequences import World, token_ids

KEY, SIZE = (1, "index"), 4


def rows_of(state: SequenceState) -> PagedRows:
    return PagedRows(state.pool, state.runs, KEY, state.length // 4)


def assert_means(state: SequenceState) -> None:
    rows = rows_of(state)
    whole = rows.length // SIZE * SIZE
    tile = rows.tile(0, whole)[0]
    wanted = (tile if tile.dtype == torch.float64 else tile.float()).unflatten(0, (-1, SIZE)).mean(1)
    torch.testing.assert_close(rows.means(SIZE)[0], wanted, rtol=0, atol=0)


@pytest.mark.parametrize("index", ["fp32", "bf16", "fp64"])
def test_means_grow_with_the_sequence(index: str) -> None:
    world = World(slab_tokens=512, index=index)  # two pages a slab: several runs
    state = world.new_state()
    assert rows_of(state).means(SIZE).shape[1] == 0
    for count in (30, 1, 250, 700, 4):
        world.read(token_ids(count, seed=count), state)
        assert_means(state)


def test_rolled_back_and_written_again() -> None:
    world = World()
    state = world.new_state()
    world.read(token_ids(300), state)
    assert_means(state)
    state.rollback(40)
    world.read(token_ids(40, seed=9), state)
    assert_means(state)


def test_forks_do_not_share_what_they_write() -> None:
    world = World()
    state = world.new_state()
    world.read(token_ids(300), state)
    assert_means(state)
    twin = state.fork()
    world.read(token_ids(60, seed=1), state)
    world.read(token_ids(60, seed=2), twin)
    assert_means(state)
    assert_means(twin)


def test_a_page_that_was_given_back_is_new() -> None:
    world = World()
    state = world.new_state()
    world.read(token_ids(512), state)
    assert_means(state)
    state.close()
    other = world.new_state()
    world.read(token_ids(512, seed=5), other)
    assert_means(other)


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
    assert means.values[:, 0].tolist() == [1.5, 5.5, 9.5, 13.5]
