"""Messages between processes arrive whole, in order, and a lost end is heard of."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.layout import RowFormat
from octavo.cache.view import Controls
from octavo.engine.spread.orders import Line, Order, Said, Setup, made
from tests.support.tiny import tiny_config


@pytest.fixture
def ends() -> Iterator[tuple[Line, Line]]:
    a, b = socket.socketpair()
    lines = Line(Connection(a.detach())), Line(Connection(b.detach()))
    yield lines
    for line in lines:
        line.close()


def setup(device: str = "cpu", rank: int = 1) -> Setup:
    return Setup(
        folder=Path("m"), config=tiny_config(), dtype="float32", device=device, main=RowFormat.FP32,
        index=RowFormat.FP32, capacity_tokens=256, chunk=None, name="m", store=Path("s"), rank=rank, count=2,
        seconds=1.0, threads=1,
    )  # fmt: skip


def test_orders_arrive_as_they_were(ends: tuple[Line, Line]) -> None:
    here, there = ends
    controls = Controls(index_topk=3, hca_offset=torch.ones(1), mass=True)
    here.send(Order.STEP, 4, np.arange(5), controls, True)
    here.send_made(made(Order.SNAPSHOT, 4, {"0.window": torch.ones(2, 3, dtype=torch.bfloat16)}, np.arange(2)))
    order, state, ids, given, all_rows = there.receive()
    assert (order, state, ids.tolist(), all_rows) == (Order.STEP, 4, [0, 1, 2, 3, 4], True)
    assert (given.index_topk, given.mass, given.hca_offset.tolist()) == (3, True, [1.0])
    order, _, tails, _ = there.receive()
    assert order is Order.SNAPSHOT
    assert torch.equal(tails["0.window"], torch.ones(2, 3, dtype=torch.bfloat16))
    there.send(Said.READY, 12)
    assert here.receive() == (Said.READY, 12)


def test_a_setup_arrives_as_it_was(ends: tuple[Line, Line]) -> None:
    ends[0].send(Order.SETUP, setup())
    assert ends[1].receive() == (Order.SETUP, setup())


def test_the_other_end_gone(ends: tuple[Line, Line]) -> None:
    ends[0].close()
    ends[0].close()
    with pytest.raises((EOFError, OSError)):
        ends[1].receive()
    with pytest.raises(OSError, match="pipe"):
        ends[1].send(Said.READY, 1)


@pytest.mark.parametrize(("device", "rank", "own"), [("cpu", 1, "cpu"), ("cuda", 0, "cuda:0"), ("cuda", 3, "cuda:3")])
def test_every_rank_has_a_gpu_of_its_own(device: str, rank: int, own: str) -> None:
    assert setup(device, rank).own_device == own
