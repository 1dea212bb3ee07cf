"""Captured steps: one for each number of tokens and width of tables, the same result every time."""

from __future__ import annotations

import numpy as np
import torch

from octavo.engine.gpu.runner import GpuRunner
from tests.support.gpu_world import begun, close


def test_steps_are_kept_by_tokens_and_width(fast: GpuRunner, ids: np.ndarray) -> None:
    state, before = begun(fast, ids[:60]), len(fast.graphs)
    first = fast.step(ids[60:61], state).logits
    for _ in range(2):
        state.rollback(1)
        close(fast.step(ids[60:61], state).logits, first)
    grown = len(fast.graphs)
    assert grown - before <= 1, "the same step is captured once"
    fast.step(ids[61:64], state)
    assert len(fast.graphs) >= grown
    kept = len(fast.graphs)
    fast.step(ids[64:65], state)
    assert len(fast.graphs) == kept


def test_results_are_the_callers_own(fast: GpuRunner, ids: np.ndarray) -> None:
    state = begun(fast, ids[:40])
    first = fast.step(ids[40:41], state)
    copy = first.logits.clone()
    second = fast.step(ids[41:42], state)
    assert torch.equal(first.logits, copy), "a later step does not write over what was given out"
    assert not torch.equal(second.logits, copy)
