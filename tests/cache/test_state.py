"""Sequences in the cache against plain lists of tokens: growth, fork, rollback, snapshots, sizes, no leak of pages."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.state import SequenceState
from octavo.config.errors import LimitError
from octavo.config.model import ModelConfig
from tests.support.sequences import World, assert_same, fake_read, small_config, token_ids
from tests.support.tiny import tiny_engram

EXACT = {"rtol": 0, "atol": 1e-5}


@lru_cache
def small_world() -> World:
    return World(slab_tokens=512)


class Sequences(RuleBasedStateMachine):
    """States grow, fork, roll back and close in any order; each must stay the plain list of tokens it has read."""

    @initialize()
    def start(self) -> None:
        self.world = small_world()
        self.free, self.adopted = self.world.pool.allocator.free, self.world.pool.allocator.total
        self.states: list[tuple[SequenceState, list[int]]] = [(self.world.new_state(), [])]

    def draw(self, data: st.DataObject) -> tuple[SequenceState, list[int]]:
        return data.draw(st.sampled_from(self.states))

    @rule(data=st.data(), count=st.sampled_from([1, 2, 3, 7, 63, 129, 300]), seed=st.integers(0, 99))
    def read(self, data: st.DataObject, count: int, seed: int) -> None:
        state, ids = self.draw(data)
        new = token_ids(count, seed=seed)
        logits = self.world.read(new, state, chunk=128)
        ids += new.tolist()
        expected = self.world.whole(np.array(ids))[-len(logits) :]
        torch.testing.assert_close(logits, expected, **EXACT)

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        state, ids = self.draw(data)
        self.states.append((state.fork(), list(ids)))

    @rule(data=st.data(), near=st.booleans())
    def rollback(self, data: st.DataObject, near: bool) -> None:
        state, ids = self.draw(data)
        n = data.draw(st.integers(0, min(len(ids), 8) if near else len(ids)))
        state.rollback(n)
        del ids[len(ids) - n :]

    @precondition(lambda self: len(self.states) > 1)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        state, _ = self.states.pop(data.draw(st.integers(0, len(self.states) - 1)))
        state.close()

    @invariant()
    def agree(self) -> None:
        for state, ids in getattr(self, "states", []):
            assert state.tokens.tolist() == ids
            assert state.length == len(ids)
            state.check_integrity()

    def teardown(self) -> None:
        for state, ids in getattr(self, "states", []):
            if ids:  # what each holds at the end still gives the logits of its own tokens
                logits = self.world.step(np.array([5]), state)
                torch.testing.assert_close(logits, self.world.whole(np.array([*ids, 5]))[-1:], **EXACT)
            state.close()
        if hasattr(self, "states"):
            allocator = self.world.pool.allocator
            assert allocator.free == allocator.total, "pages were lost"


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=12, stateful_step_count=12)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("length", [129, 131, 256, 258, 391])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_rollback_within_the_margin_needs_no_model(world: World, length: int, n: int) -> None:
    """Over borders of 4, 128 and 256 tokens: as if the tokens had never been read."""
    ids = token_ids(length)
    state = world.new_state(can_replay=False)
    world.read(ids, state, chunk=64)
    state.rollback(n)
    state.check_integrity()
    kept = ids[: length - n]
    assert state.tokens.tolist() == kept.tolist()
    more = token_ids(9, seed=1)
    torch.testing.assert_close(world.step(more, state), world.whole(np.concatenate((kept, more)))[-9:], **EXACT)


@pytest.mark.parametrize("n", [1, 8, 9, 100])
def test_rollback_cuts_the_convolution_rows_too(n: int) -> None:
    """Variant v1 of the n-gram memory keeps rows of its own: cut within the margin, read again beyond it."""
    world = World(small_config(engram=tiny_engram("v1", layers=(1,))))
    ids, state = token_ids(140), world.new_state()
    world.read(ids, state, chunk=50)
    state.rollback(n)
    kept = np.concatenate((ids[: 140 - n], token_ids(5, seed=1)))
    torch.testing.assert_close(world.step(kept[-5:], state), world.whole(kept)[-5:], **EXACT)
    twin = state.fork()
    twin.load_snapshot(state.snapshot(), state.tokens)
    assert_same(twin, state)


@pytest.mark.parametrize("n", [9, 40, 130, 299, 300])
def test_rollback_beyond_the_margin_reads_again(world: World, n: int) -> None:
    ids = token_ids(300)
    state = world.new_state()
    world.read(ids, state)
    state.rollback(n)
    state.check_integrity()
    kept = np.concatenate((ids[: 300 - n], token_ids(5, seed=1)))
    torch.testing.assert_close(world.step(kept[-5:], state), world.whole(kept)[-5:], **EXACT)
    state.close()


def test_rollback_beyond_the_margin_without_a_model_says_so(world: World) -> None:
    state = world.new_state(can_replay=False)
    world.read(token_ids(200), state)
    with pytest.raises(LimitError, match="160 tokens must be read again, and this state has no model"):
        state.rollback(40)


@pytest.mark.parametrize("n", [-1, 6])
def test_rollback_out_of_range_changes_nothing(world: World, n: int) -> None:
    state = world.new_state()
    world.read(token_ids(5), state)
    with pytest.raises(LimitError, match=f"n = {n}, must be between 0 and the sequence length 5"):
        state.rollback(n)
    assert state.length == 5


def test_rollback_starts_again_from_the_nearest_mark(world: World) -> None:
    """4,096 tokens are kept as a mark, so going back from 4,200 to 4,100 reads four tokens, not 4,100."""
    again: list[int] = []

    def replay(ids: np.ndarray, state: SequenceState) -> None:
        again.append(len(ids))
        fake_read(state, len(ids))

    state = SequenceState(world.pool, world.new_state().tails, replay=replay)
    fake_read(state, 4200)
    assert state.marks == (0, 4096)
    state.rollback(100)
    assert (again, state.length) == ([4], 4100)
    state.rollback(4)
    assert (again, state.length, state.marks) == ([4], 4096, (0, 4096))
    state.rollback(4096)
    assert (again, state.length, state.marks, state.pages) == ([4], 0, (0,), [])


def test_only_the_newest_marks_are_kept(world: World) -> None:
    state = world.new_state()
    fake_read(state, 3 * 4096 + 5)
    assert state.marks == (0, 8192, 12288)


def test_a_fork_shares_pages_until_one_of_the_two_writes(world: World) -> None:
    state = world.new_state()
    world.read(token_ids(300), state)
    fork = state.fork()
    assert fork.pages == state.pages
    before = {key: rows.clone() for key, rows in state.read_pages(0, 2).items()}
    world.step(token_ids(40, seed=1), fork)
    assert fork.pages[0] == state.pages[0]
    assert fork.pages[1] != state.pages[1]
    after = state.read_pages(0, 2)
    assert all(torch.equal(before[key], after[key]) for key in before)
    page = state.pages[1]
    world.step(token_ids(40, seed=2), state)  # now the only holder: written in place
    assert state.pages[1] == page


def test_closing_gives_every_page_back_and_once(world: World) -> None:
    allocator = world.pool.allocator
    state = world.new_state()
    world.read(token_ids(600), state)
    held = allocator.total - allocator.free
    fork = state.fork()
    world.step(token_ids(3), fork)
    state.close()
    state.close()
    assert allocator.total - allocator.free == held  # the fork holds the shared pages and its own copy of the last
    fork.close()
    assert allocator.total - allocator.free == held - 3
    with pytest.raises(AssertionError, match="closed"):
        state.reserve(1)


def test_a_forgotten_state_gives_its_pages_back() -> None:
    world = World(slab_tokens=1024)
    state = world.new_state()
    world.read(token_ids(600), state)
    del state
    assert world.pool.allocator.free == world.pool.allocator.total == 4


def test_an_interrupted_step_leaves_the_state_as_it_was(world: World) -> None:
    ids = token_ids(250)
    state = world.new_state()
    world.read(ids, state)
    state.reserve(400)  # what a step does first; it never commits
    for key in world.pool.specs:
        world.pool.write(state.runs, key, 250 // world.pool.specs[key].ratio, torch.full((1, 32), 9.0))
    more = token_ids(20, seed=1)
    logits = world.step(more, state)
    torch.testing.assert_close(logits, world.whole(np.concatenate((ids, more)))[-20:], **EXACT)
    assert len(state.pages) == 2


FORMATS = [("fp64", "fp64"), ("fp32", "fp32"), ("bf16", "bf16"), ("fp8", "fp4"), ("fp8", "fp8"), ("fp4", "fp4")]


@pytest.mark.parametrize(("main", "index"), FORMATS)
@pytest.mark.parametrize("engram", [None, "v1"])
def test_bytes_equal_the_plan(main: str, index: str, engram: str | None) -> None:
    """Seven tokens after a border of 128 every compressor holds its most rows: the plan is reached to the byte."""
    config = small_config(engram=None if engram is None else tiny_engram(engram, layers=(1,)))
    world = World(config, main=main, index=index)
    state = world.new_state()
    length = 4 * 128 + 7
    fake_read(state, length)
    assert state.nbytes == world.layout.total_bytes(length)
    assert len(state.pages) * world.layout.page_bytes == world.layout.paged_bytes(length)
    slabs = -(-len(state.pages) // world.pool.slab_pages)
    assert world.pool.nbytes == slabs * world.pool.slab_pages * world.layout.page_bytes
    for more in (1, 50, 90):
        fake_read(state, more)
        assert state.nbytes <= world.layout.total_bytes(state.length)


@pytest.mark.parametrize(("main", "index"), FORMATS)
@pytest.mark.parametrize("config", [small_config(), small_config(engram=tiny_engram("v1", layers=(1,)))],
                         ids=["plain", "engram"])  # fmt: skip
def test_small_chunks_store_what_large_ones_store(config: ModelConfig, main: str, index: str) -> None:
    """Whatever the format, the cache does not depend on how the text was cut; close logits, equal sizes."""
    world, ids = World(config, main=main, index=index), token_ids(140)
    a, b = world.new_state(), world.new_state()
    left, right = world.read(ids, a, chunk=64), world.read(ids, b, chunk=5)
    bound = 1e-5 if main in ("fp32", "fp64") else 0.1 if main == "fp4" else 0.05
    torch.testing.assert_close(left[-1], right[-1], rtol=0, atol=bound)
    assert a.nbytes == b.nbytes


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("length", [256, 512])
def test_pages_and_snapshot_are_the_whole_state(world: World, length: int, lean: bool) -> None:
    state = world.new_state()
    world.read(token_ids(length), state, chunk=64)
    twin = world.new_state()
    rows = state.read_pages(0, len(state.pages))
    twin.adopt_pages(rows.__getitem__, len(state.pages))
    twin.load_snapshot(state.snapshot(lean=lean), state.tokens)
    twin.check_integrity()
    more = token_ids(30, seed=1)
    assert torch.equal(world.step(more, twin), world.step(more, state))
    assert_same(twin, state) if not lean else twin.check_integrity()


def test_a_snapshot_of_a_mark_is_the_one_that_was_taken_there(world: World) -> None:
    state, early = world.new_state(), world.new_state()
    fake_read(early, 4096)
    fake_read(state, 4500)
    taken, made = early.snapshot(lean=True), state.snapshot(4096, lean=True)
    assert taken.keys() == made.keys()
    assert all(torch.equal(taken[name], made[name]) for name in taken)


def test_adopted_last_page_is_copied_before_writing(world: World) -> None:
    """A stored page is never written, even where it is partly empty."""
    state, twin = world.new_state(), world.new_state()
    ids = token_ids(300)
    world.read(ids, state, chunk=50)
    rows = state.read_pages(0, 2)
    kept = {key: values.clone() for key, values in rows.items()}
    twin.adopt_pages(rows.__getitem__, 2)
    twin.load_snapshot(state.snapshot(), ids)
    more = token_ids(60, seed=1)
    assert torch.equal(world.step(more, twin), world.step(more, state))
    assert all(torch.equal(rows[key], kept[key]) for key in rows)
    assert world.pool.allocator.writable(twin.pages[-1])
    twin.rollback(60)
    twin.check_integrity()
    assert twin.length == 300


@pytest.mark.parametrize("fault", ["page", "window", "raw", "runs", "released"])
def test_integrity_check_sees_a_broken_state(world: World, fault: str) -> None:
    state = world.new_state()
    fake_read(state, 300)
    window, csa, hca = state.tails
    if fault == "page":
        state.pages.pop()
    elif fault == "runs":
        state.runs = state.runs[:-1]
    elif fault == "released":
        world.pool.release(state.pages[:1])
    elif fault == "window":
        state.tails = (type(window)(window=window.window[5:][:20], raw={}, raw_first={}), csa, hca)
    else:
        raw = {"main": hca.raw["main"][:-1]}
        state.tails = (window, csa, type(hca)(window=hca.window, raw=raw, raw_first=hca.raw_first))
    with pytest.raises((AssertionError, KeyError)):
        state.check_integrity()
    if fault == "released":
        world.pool.allocator._holders[state.pages[0]] = 1
        world.pool.allocator._free.remove(state.pages[0])


def test_tokens_are_those_of_the_state_alone(world: World) -> None:
    state = world.new_state()
    fake_read(state, 10)
    fork = state.fork()
    a, b = fake_read(state, 5, seed=1), fake_read(fork, 5, seed=2)
    assert state.tokens[10:].tolist() == a.tolist()
    assert fork.tokens[10:].tolist() == b.tolist()
    assert (state.tokens.dtype, len(state.tokens)) == (np.int32, 15)


def test_pages_cover_the_tokens_exactly(world: World) -> None:
    state = world.new_state()
    for length in (1, PAGE_TOKENS, PAGE_TOKENS + 1):
        fake_read(state, length - state.length)
        assert len(state.pages) == -(-length // PAGE_TOKENS)


def test_ids_that_were_handed_out_outlive_a_rollback() -> None:
    world = World()
    state = world.new_state()
    world.read(token_ids(40), state)
    held, buffer = state.tokens, state._ids
    state.rollback(5)
    world.read(held[35:38].copy(), state)  # the same again: nothing moves
    assert state._ids is buffer
    world.read(token_ids(2, seed=7), state)  # others
    assert held.tolist() == token_ids(40).tolist()
    assert state.tokens[38:].tolist() == token_ids(2, seed=7).tolist()


def test_appending_copies_no_ids() -> None:
    world = World()
    state = world.new_state()
    world.read(token_ids(10), state)
    buffer = state._ids
    for seed in range(20):
        world.read(token_ids(1, seed=seed), state)
    assert state._ids is buffer
