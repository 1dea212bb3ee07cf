"""A step that waits for the one before it: what it sees, when it goes on, and when it gives up."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from octavo.cache.ahead import Abandoned, RowsAhead
from tests.support.sequences import World, token_ids


def steps(world: World, count: int = 4) -> tuple[RowsAhead, RowsAhead]:
    """Two steps of `count` tokens each on an empty sequence."""
    state, ids = world.new_state(), token_ids(2 * count)
    state.reserve(count)
    first = RowsAhead(state, count, first=0, before=None, ids=ids[:count])
    state.reserve(count, ahead=count)
    return first, RowsAhead(state, count, first=count, before=first, ids=ids)


def test_a_layer_waits_until_the_step_before_has_left_it() -> None:
    world = World()
    first, second = steps(world)
    rows = torch.randn(1, 4, world.config.head_dim)
    first.window(0, rows)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(second.window(0, rows).shape[1]))
    thread.start()
    thread.join(0.1)
    assert seen == []
    first.window(1, rows)  # the next layer: layer 0 is complete
    thread.join(10)
    assert seen == [8]


def test_a_finished_step_holds_nobody_up() -> None:
    world = World()
    first, second = steps(world)
    rows = torch.randn(1, 4, world.config.head_dim)
    first.window(0, rows)
    first.finish()
    assert second.window(0, rows).shape[1] == 8


def test_stopping_a_step_releases_whoever_waits_for_it() -> None:
    world = World()
    first, second = steps(world)
    rows = torch.randn(1, 4, world.config.head_dim)
    first.window(0, rows)
    caught: list[type[BaseException]] = []

    def wait() -> None:
        try:
            second.window(0, rows)
        except Abandoned as error:
            caught.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    first.stop()
    thread.join(10)
    assert caught == [Abandoned]
    with pytest.raises(Abandoned):
        first.window(1, rows)


def test_ids_before_come_from_the_steps_on_their_way() -> None:
    first, second = steps(World())
    ids = token_ids(8)
    assert first.ids_before(3).tolist() == [[]]
    assert second.ids_before(3).tolist() == [ids[1:4].tolist()]
    assert second.ids_before(9).tolist() == [ids[:4].tolist()]


def test_commits_out_of_order_are_refused() -> None:
    _, second = steps(World())
    with pytest.raises(AssertionError, match="order"):
        second.commit(np.zeros(4, dtype=np.int32))
