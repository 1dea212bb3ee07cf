"""A state whose rows are in a slot forks, rolls back and is read by the plain model as any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octavo.cache.slots import Slots
from octavo.engine.gpu.runner import GpuRunner
from octavo.engine.runner import Runner
from tests.support.gpu_world import after, begun, close


def test_fork_and_rollback(plain: Runner, fast: GpuRunner, ids: np.ndarray) -> None:
    state, wanted = begun(fast, ids[:131]), begun(plain, ids[:131])
    after(fast, state, ids[131:135])
    twin = state.fork()
    state.rollback(4)
    for runner, one in ((plain, wanted), (fast, state)):
        after(runner, one, ids[200:203])
    close(fast.step(ids[:1], state).logits, plain.step(ids[:1], wanted).logits)
    other = begun(plain, ids[:135])
    close(fast.step(ids[9:10], twin).logits, plain.step(ids[9:10], other).logits)
    state.check_integrity()
    twin.check_integrity()


def test_a_short_rollback_moves_nothing(
    plain: Runner, fast: GpuRunner, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, wanted = begun(fast, ids[:122]), begun(plain, ids[:122])
    after(fast, state, ids[122:124])
    with monkeypatch.context() as patch:
        for name in ("load", "save"):
            patch.setattr(Slots, name, None)
        after(fast, state, ids[300:304])  # closes a CSA entry and an HCA entry
        state.rollback(4)
        after(fast, state, ids[310:312])
        state.rollback(3)
        got = after(fast, state, ids[123:126]).logits
    after(plain, wanted, ids[122:123])
    close(got, after(plain, wanted, ids[123:126]).logits)
    state.check_integrity()
    assert state.tokens.tolist() == ids[:126].tolist()
    twin = state.fork()
    twin.check_integrity()
    close(fast.step(ids[1:2], twin).logits, plain.step(ids[1:2], wanted).logits)


def test_rows_that_a_lean_snapshot_left_out_are_not_made_up(fast: GpuRunner, ids: np.ndarray) -> None:
    source, state = begun(fast, ids[:60]), fast.new_state()
    pages = source.read_pages(0, 1)
    state.adopt_pages(lambda key: pages[key].clone(), 1)
    state.load_snapshot(source.snapshot(lean=True), source.tokens)
    fast.step(ids[60:61], state)
    for got, given in zip(state.tails, source.tails, strict=True):
        assert torch.equal(got.window[:-1], given.window[-31:])
    state.check_integrity()
