"""Slots go from sequence to sequence, pages of a file come into the slab."""

from __future__ import annotations

import numpy as np

from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.gpu.state import GpuState
from octavo.engine.runner import Runner
from tests.support.gpu_world import begun, close


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
