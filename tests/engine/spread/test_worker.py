"""The process of a rank: it does as it is told, ends when it is told or left alone, and says why it cannot go on."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from octavo.cache.layout import RowFormat
from octavo.cache.view import Controls
from octavo.config.model import ModelConfig
from octavo.engine.llm import LLM, load
from octavo.engine.spread.orders import Line, Order, Said, Setup
from octavo.engine.spread.rank import build, digest
from octavo.engine.spread.worker import Mirror
from octavo.kernels.dispatch import Body
from tests.support.tiny import tiny_config, write_tiny_model

SECONDS = 60
IDS = np.arange(600) % 390 + 3


def setup_of(folder: Path, config: ModelConfig) -> Setup:
    return Setup(
        folder=folder, config=config, dtype="float32", device="cpu", main=RowFormat.FP32, index=RowFormat.FP32,
        capacity_tokens=4096, chunk=64, name="tiny", store=folder / "store", rank=0, count=1, seconds=30.0, threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(max_position_embeddings=4096)
    return write_tiny_model(tmp_path_factory.mktemp("model"), config, 1)


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return load(folder, chunk=64)


@pytest.fixture
def mirror(folder: Path) -> Mirror:
    model, pool = build(setup_of(folder, ModelConfig.from_json(folder)))
    model.team.open = True
    return Mirror(model, pool, chunk=64, name="tiny")


def test_orders_do_what_they_say(mirror: Mirror, llm: LLM) -> None:
    with closing(llm.new_state()) as state:
        mirror.do(Order.NEW, 7)
        for part in (IDS[:64], IDS[64:100]):
            mirror.do(Order.ADVANCE, 7, part, None, Body.FAST)
            llm.runner._advance(part, state, None)
        mirror.do(Order.FORK, 7, 8)
        mirror.do(Order.ROLLBACK, 7, 30)
        mirror.do(Order.STEP, 8, IDS[100:103], Controls(mass=True), True, Body.REFERENCE)
        with closing(state.fork()) as twin:
            state.rollback(30)
            assert mirror.do(Order.DIGEST, 7) == digest(state)
            assert mirror.do(Order.DIGEST, 8) != digest(twin)
            twin.close()
        mirror.do(Order.CLOSE, 8)
        with pytest.raises(KeyError):
            mirror.do(Order.DIGEST, 8)
    mirror.do(Order.WHOLE, IDS[:10], Body.FAST)
    assert mirror.do(Order.FINGERPRINT) == llm.fingerprint


def test_rows_from_files_come_before_they_are_read(mirror: Mirror, llm: LLM) -> None:
    with closing(llm.new_state()) as state:
        llm.runner.read(IDS[:512], state)
        rows = {key: value.numpy() for key, value in state.read_pages(0, 2).items()}
        mirror.do(Order.NEW, 1)
        mirror.do(Order.ADOPT, 1, 5, 2)
        mirror.do(Order.SNAPSHOT, 1, state.snapshot(), state.tokens.copy())
        mirror.do(Order.FORK, 1, 2)
        mirror.do(Order.ROWS, 5, rows)
        assert mirror.do(Order.DIGEST, 1) == mirror.do(Order.DIGEST, 2) == digest(state)
        mirror.do(Order.ADVANCE, 2, IDS[512:], None, Body.FAST)
        llm.runner._advance(IDS[512:], state, None)
        assert mirror.do(Order.DIGEST, 2) == digest(state)
    for number in (1, 2):
        mirror.do(Order.CLOSE, number)
    mirror.do(Order.ROWS, 5, rows)  # nobody waits for them any more


@pytest.fixture
def started() -> Iterator[tuple[Line, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    with theirs:
        line = [sys.executable, "-m", "octavo.engine.spread.worker", str(theirs.fileno())]
        process = subprocess.Popen(line, pass_fds=[theirs.fileno()])
    end = Line(Connection(ours.detach()))
    yield end, process
    end.close()
    process.kill()
    process.wait()


def test_it_ends_when_told(started: tuple[Line, subprocess.Popen[bytes]], folder: Path, llm: LLM) -> None:
    line, process = started
    line.send(Order.SETUP, setup_of(folder, ModelConfig.from_json(folder)))
    assert line.receive() == (Said.READY, sum(t.nbytes for t in llm.model.state_dict().values()))
    line.send(Order.NEW, 0)
    line.send(Order.ADVANCE, 0, IDS[:64], None, Body.FAST)
    line.send(Order.DIGEST, 0)
    with closing(llm.new_state()) as state:
        llm.runner._advance(IDS[:64], state, None)
        assert line.receive() == (Said.DIGEST, digest(state))
    line.send(Order.STOP)
    assert process.wait(SECONDS) == 0


def test_it_ends_when_left_alone(started: tuple[Line, subprocess.Popen[bytes]], folder: Path) -> None:
    line, process = started
    line.send(Order.SETUP, setup_of(folder, ModelConfig.from_json(folder)))
    assert line.receive()[0] is Said.READY
    line.close()
    assert process.wait(SECONDS) == 0


def test_it_says_why_it_cannot_go_on(started: tuple[Line, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    line, process = started
    line.send(Order.SETUP, replace(setup_of(tmp_path, tiny_config()), store=tmp_path / "store"))
    said, why = line.receive()
    assert said is Said.FAILED
    assert why.startswith("CheckpointError: ")
    assert process.wait(SECONDS) == 1
