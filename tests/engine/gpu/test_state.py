"""A state whose rows are in a slot forks, rolls back and is read by the plain model as any other."""

from __future__ import annotations

import numpy as np

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
