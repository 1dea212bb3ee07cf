"""Launches that repeat, and numbers that are sent: as they are on a CPU, captured and pinned on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octavo.engine.gpu.replay import Replay, Staging
from tests.support.gpu_world import DEVICE


def test_without_a_pool_it_runs_every_time() -> None:
    seen: list[int] = []
    again = Replay(lambda: seen.append(1), None)
    for _ in range(3):
        again()
    assert seen == [1, 1, 1]


def test_an_interrupted_first_time_is_a_first_time_again() -> None:
    calls = 0

    def run() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt

    again = Replay(run, None)
    with pytest.raises(KeyboardInterrupt):
        again()
    again()
    assert calls == 2


def test_what_is_sent_is_what_was_written_down_however_soon_the_next_follows() -> None:
    device = torch.device(DEVICE)
    staging, kept = Staging(3, 64, device), torch.zeros(200, 3, 64, dtype=torch.int64, device=device)
    for number in range(200):
        staging.array()[:] = np.arange(3 * 64).reshape(3, 64) + number
        staging.send(kept[number])
    wanted = torch.arange(3 * 64).view(1, 3, 64) + torch.arange(200).view(-1, 1, 1)
    assert torch.equal(kept.cpu(), wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_captured_the_second_time() -> None:
    seen, total = [], torch.zeros(1, device="cuda")

    def run() -> None:
        seen.append(1)
        total.add_(1)

    again = Replay(run, torch.cuda.graph_pool_handle())
    for _ in range(5):
        again()
    assert len(seen) == 2
    assert float(total) == 5
