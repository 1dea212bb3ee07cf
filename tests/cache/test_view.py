"""Views: how packed tokens are grouped, and what the two sources of past rows give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octavo.cache.view import Controls, Picks, View
from tests.support.sequences import World, assert_same, small_config, token_ids
from tests.support.tiny import tiny_engram


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_neighbours_of_equal_length_form_a_group() -> None:
    view = View.packed([0, 3, 6, 8, 11])
    assert [(g.start, g.rows, g.length, g.stop) for g in view.groups] == [(0, 2, 3, 6), (6, 1, 2, 8), (8, 1, 3, 11)]
    assert view.positions.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 2]


def test_positions_begin_anew_in_every_document() -> None:
    document = torch.tensor([0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    view = View.packed([0, 5, 10], document=document)
    assert view.positions.tolist() == [0, 1, 0, 1, 2, 0, 0, 1, 2, 3]
    (group,) = view.groups
    assert group.documents is not None
    assert group.documents.begin.tolist() == [[0, 0, 2, 2, 2], [0, 1, 1, 1, 1]]
    assert View.packed([0, 5, 10]).groups[0].documents is None


def test_packed_positions_can_be_given() -> None:
    view = View.packed([0, 8], positions=torch.arange(100, 108))
    past = view.groups[0].past
    assert past.entry_positions(0, 2, 4).tolist() == [[100, 104]]
    assert past.ids_before(5).shape == (1, 0)


def test_packed_rows_stay_in_the_graph() -> None:
    past = View.packed([0, 4]).groups[0].past
    rows = torch.randn(1, 4, 8, requires_grad=True)
    entries = past.entries(1, "main", 0, rows).tile(0, 4)
    raw = past.raw(1, "main", rows, since=0)
    assert raw is not None
    (past.window(0, rows).sum() + raw.sum() + entries.sum()).backward()
    assert rows.grad is not None
    assert (rows.grad == 3).all()


def test_step_positions_go_on_from_each_state(world: World) -> None:
    a, b = world.new_state(), world.new_state()
    world.read(token_ids(10), a)
    view = View.step([a, b], [3, 2])
    assert view.positions.tolist() == [10, 11, 12, 0, 1]
    assert [(g.first, g.start, g.length) for g in view.groups] == [(10, 0, 3), (0, 3, 2)]
    assert view.groups[0].past.entry_positions(2, 5, 4).tolist() == [[8, 12, 16]]
    assert view.groups[0].past.ids_before(4).tolist() == [token_ids(10)[-4:].tolist()]
    assert view.groups[0].past.ids_before(99).shape == (1, 10)


def test_nothing_changes_before_the_commit(world: World) -> None:
    state = world.new_state()
    world.read(token_ids(20), state)
    tails = state.tails
    tokens = torch.from_numpy(token_ids(7, seed=1).astype(np.int64))
    view = View.step([state], [7])
    with torch.inference_mode():
        world.model(tokens, view)
    assert (state.length, state.tails is tails) == (20, True)
    view.commit(tokens)
    assert state.length == 27
    assert state.tokens[20:].tolist() == tokens.tolist()
    state.check_integrity()


@pytest.mark.parametrize("engram", [None, "v1", "v41"])
def test_several_states_in_one_step_are_each_as_alone(engram: str | None) -> None:
    world = World(small_config(engram=None if engram is None else tiny_engram(engram, layers=(1,))))
    together = [world.new_state() for _ in range(3)]
    alone = [world.new_state() for _ in range(3)]
    for round, counts in enumerate([(130, 5, 31), (3, 3, 100), (1, 1, 1)]):
        ids = [token_ids(n, seed=10 * round + i) for i, n in enumerate(counts)]
        tokens = torch.from_numpy(np.concatenate(ids).astype(np.int64))
        view = View.step(together, counts)
        with torch.inference_mode():
            packed = world.model.logits(world.model(tokens, view).streams).split(list(counts))
        view.commit(tokens)
        for i, state in enumerate(alone):
            torch.testing.assert_close(packed[i], world.step(ids[i], state), rtol=0, atol=1e-5)
    for a, b in zip(together, alone, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist()
        assert a.nbytes == b.nbytes
        a.check_integrity()


def test_commit_of_another_count_is_refused(world: World) -> None:
    state = world.new_state()
    view = View.step([state], [3])
    with pytest.raises(AssertionError):
        view.commit(torch.zeros(2, dtype=torch.int64))


def test_window_keeps_the_last_rows_and_returns_what_is_visible(world: World) -> None:
    state = world.new_state()
    world.read(token_ids(100), state)
    layout = world.layout
    assert len(state.tails[0].window) == layout.window_rows
    view = View.step([state], [2])
    rows = torch.randn(1, 2, 32)
    seen = view.groups[0].past.window(0, rows)
    assert seen.shape == (1, layout.config.sliding_window - 1 + 2, 32)
    assert torch.equal(seen[:, -2:], rows)


def test_same_bits_whatever_was_reserved_before(world: World) -> None:
    a, b = world.new_state(), world.new_state()
    ids = token_ids(300)
    world.read(ids, a, chunk=100)
    b.reserve(1000)
    world.read(ids, b, chunk=100)
    assert_same(a, b)


def test_controls_change_what_is_attended_to(world: World) -> None:
    ids = token_ids(400)
    logits = {}
    for name, controls in {
        "plain": None,
        "all": Controls(picks=Picks.ALL),
        "many": Controls(index_topk=400),
        "few": Controls(index_topk=2),
        "no hca": Controls(hca=False),
    }.items():
        with torch.inference_mode():
            logits[name] = world.step(ids, world.new_state(), controls)
    torch.testing.assert_close(logits["all"], logits["many"], rtol=0, atol=1e-5)
    for name in ("all", "few", "no hca"):
        assert (logits[name] - logits["plain"]).abs().max() > 1e-3, name
