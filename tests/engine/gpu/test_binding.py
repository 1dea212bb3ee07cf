"""Slots go from sequence to sequence, pages of a file come into the slab."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from octavo.config.errors import LimitError
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.gpu.state import GpuState
from octavo.engine.runner import Runner
from octavo.model.transformer import Transformer
from tests.support.gpu_world import begun, close, gpu_runner


def test_a_slot_goes_to_whoever_needs_it_and_nothing_is_lost(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    states = [begun(fast, ids[at : at + 50 + at]) for at in range(4)]
    for state in states:
        fast.step(ids[:1], state)
    assert [isinstance(s, GpuState) and s.slot is None for s in states] == [True, False, False, False]
    wanted = begun(plain, ids[:50])
    plain.step(ids[:1], wanted)
    close(fast.step(ids[7:8], states[0]).logits, plain.step(ids[7:8], wanted).logits)


def test_pages_of_a_file_are_brought_in(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    source = begun(fast, ids[:300])
    pages, tails = source.read_pages(0, 2), source.snapshot()
    state = fast.new_state()
    state.adopt_pages(lambda key: pages[key].clone(), 2)
    state.load_snapshot(tails, source.tokens)
    wanted = begun(plain, ids[:300])
    close(fast.step(ids[300:301], state).logits, plain.step(ids[300:301], wanted).logits)
    assert fast.pool.adopted_bytes == 0, "the file's pages are let go"
    state.check_integrity()


def of(runner: GpuRunner) -> GpuState:
    return runner.new_state()


class Taker:
    """Binds a state when it is collected, as a lane may while another thread collects."""

    def __init__(self, runner: GpuRunner, state: GpuState) -> None:
        self.runner, self.state, self.other = runner, state, None

    def __del__(self) -> None:
        self.runner.binding.bind([self.state])


def test_a_state_that_is_collected_does_not_give_another_ones_slot_up(model: Transformer) -> None:
    """A collection clears the weak references before it ends the states."""
    runner = gpu_runner(model, slots=1)
    kept, third = of(runner), of(runner)
    taker = Taker(runner, kept)  # is older than the state, so its end comes first
    lost = of(runner)
    runner.binding.bind([lost])
    taker.other, lost.listed = lost, [taker]  # type: ignore[assignment, list-item]
    gc.collect()
    gc.disable()
    try:
        del lost, taker
        gc.collect()
    finally:
        gc.enable()
    assert kept.slot == 0
    assert runner.binding.bind([kept]) == [0], "the slot is still known as its own"
    assert runner.binding.bind([third]) == [0]
    assert kept.slot is None, "one slot has one user"


def test_a_state_that_ends_while_its_slot_is_taken_frees_it_once(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end may come on the thread that takes, in the middle: the lock lets that in."""
    runner = gpu_runner(model, slots=2)
    states = [of(runner) for _ in range(4)]
    assert runner.slots.count == 2
    binding = runner.binding
    binding.bind(states[:2])

    class Interrupted(dict[int, object]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            found = list(super().__iter__())
            for state in states[:2]:
                state.close()
            return iter(found)

    monkeypatch.setattr(binding, "_users", Interrupted(binding._users))
    taken = binding.bind(states[2:])
    assert sorted(taken) == [0, 1]
    assert not binding._unused


def test_a_slot_whose_rows_cannot_be_fetched_stays_with_its_user(
    model: Transformer, plain: Runner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = gpu_runner(model, slots=1)
    state, wanted, other = begun(runner, ids[:50]), begun(plain, ids[:50]), of(runner)
    runner.step(ids[:1], state)
    plain.step(ids[:1], wanted)
    assert isinstance(state, GpuState)

    def refused(slot: int, length: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(runner.slots, "save", refused)
        with pytest.raises(MemoryError):
            runner.binding.bind([other])
    assert (state.slot, other.slot) == (0, None)
    assert runner.binding.bind([other]) == [0], "the slot is taken from whom it is known to belong to"
    assert state.slot is None
    close(runner.step(ids[7:8], state).logits, plain.step(ids[7:8], wanted).logits)


def test_where_no_slot_can_be_had_it_says_so(model: Transformer) -> None:
    runner = gpu_runner(model, slots=2)
    runner.binding._unused.clear()
    with pytest.raises(LimitError, match="none of the 2 slots of this GPU is free"):
        runner.binding.bind([of(runner)])
