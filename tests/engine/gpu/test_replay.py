"""Launches that repeat, and numbers that are sent: as they are on a CPU, captured and pinned on a GPU."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
import torch

from octavo.engine.gpu.replay import Captures, Replay, Staging
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


class Refusing(Captures):
    """Captures nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def take(self, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
        self.asked += 1
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_what_cannot_be_captured_runs_as_it_is_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    captures = Refusing()
    again = Replay(lambda: seen.append(1), captures)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            again()
    assert (len(seen), captures.asked) == (4, 1)
    assert caplog.messages == [
        "a step is run kernel by kernel: its capture failed: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_pool_whose_capture_did_not_end_is_used_no_more(
    monkeypatch: pytest.MonkeyPatch, error: type[ValueError] | None
) -> None:
    """Whether the launches had failed before or not; what torch does then is tested on a GPU."""
    handles, pools = count(), list[int]()

    class Graph:
        def capture_begin(self, *, pool: int, capture_error_mode: str) -> None:
            pools.append(pool)

        def capture_end(self) -> None:
            if len(pools) < 3:
                raise RuntimeError("capture invalidated")

    def run() -> None:
        if error is not None and len(pools) < 3:
            raise error

    cuda = {
        "CUDAGraph": Graph, "Stream": object, "graph_pool_handle": lambda: next(handles),
        "stream": contextlib.nullcontext, "synchronize": lambda: None,
    }  # fmt: skip
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    captures = Captures()
    for _ in range(2):
        with pytest.raises(error or RuntimeError):
            captures.take(run)
    for _ in range(2):
        captures.take(run)
    assert pools == [0, 1, 2, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_capture_that_fails_leaves_the_stream_as_it_was() -> None:
    total, before = torch.zeros(1, device="cuda"), torch.cuda.current_stream()

    def run() -> None:
        total.add_(1)
        total.item()  # a copy to the host that is waited for: no capture has it

    captures = Captures.on(torch.device("cuda"))
    again = Replay(run, captures)
    for _ in range(3):
        again()
    assert torch.cuda.current_stream() == before
    assert float(total) == 3
    assert captures is not None

    def good() -> None:
        total.add_(torch.ones_like(total))

    for _ in range(2):  # torch holds the pool of the one that failed for one that is recorded into
        captures.take(good).replay()
    assert float(total) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_captured_the_second_time() -> None:
    seen, total = [], torch.zeros(1, device="cuda")

    def run() -> None:
        seen.append(1)
        total.add_(1)

    again = Replay(run, Captures.on(torch.device("cuda")))
    for _ in range(5):
        again()
    assert len(seen) == 2
    assert float(total) == 5
