"""Processes beside the first: none is left over, none is waited for in vain, and the reason of an end is said."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.cache.layout import RowFormat
from octavo.config.errors import CheckpointError, UsageError, WorkerError
from octavo.config.model import ModelConfig
from octavo.engine.spread.crew import Crew
from octavo.engine.spread.orders import Order
from octavo.engine.spread.runner import SpreadRunner, make_spread, setup_of
from tests.support.spread_pair import SECONDS, gone, spread_folder

IDS = np.arange(300) % 390 + 3


def begun(folder: Path, *, seconds: float = 30.0) -> SpreadRunner:
    return make_spread(
        setup_of(
            folder, ModelConfig.from_json(folder), "float32", 2, device="cpu", main=RowFormat.FP32,
            index=RowFormat.FP32, capacity_tokens=4096, chunk=64, seconds=seconds,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spread_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def runner(folder: Path) -> Iterator[SpreadRunner]:
    made = begun(folder)
    yield made
    made.crew.close()


def heard(crew: Crew) -> str:
    assert crew._failed.wait(SECONDS)
    assert crew.failure is not None
    return crew.failure


KILLED = "worker 1 of 2 ended (signal SIGKILL); the model must be loaded again"


def test_killed_while_nobody_asks(runner: SpreadRunner) -> None:
    os.kill(runner.crew.pids[0], signal.SIGKILL)
    assert heard(runner.crew) == KILLED
    for call in (runner.new_state, lambda: runner.whole_logits(IDS), lambda: runner.check_room(1, 0)):
        with pytest.raises(WorkerError) as error:
            call()
        assert str(error.value) == KILLED


def test_killed_between_two_chunks(runner: SpreadRunner) -> None:
    state = runner.new_state()
    with pytest.raises(WorkerError):
        runner.read(IDS, state, after=lambda _: os.kill(runner.crew.pids[0], signal.SIGKILL))
    assert heard(runner.crew) == KILLED
    assert state.length == 64
    state.close()


def test_killed_in_the_middle_of_a_step(runner: SpreadRunner) -> None:
    def own() -> None:
        os.kill(runner.crew.pids[0], signal.SIGKILL)
        assert runner.crew._failed.wait(SECONDS)
        raise RuntimeError("what an exchange says whose other side is gone")

    with pytest.raises(WorkerError) as error:
        runner.crew.run(own, Order.FINGERPRINT)
    assert str(error.value) == KILLED


def test_one_that_hangs_is_not_waited_for(folder: Path) -> None:
    runner = begun(folder, seconds=1.0)
    os.kill(runner.crew.pids[0], signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"a step of the spread model failed \(RuntimeError: .*; it must be loaded"):
        runner.whole_logits(IDS)
    runner.crew.close()
    assert gone(runner.crew.pids[0])


def test_what_fails_here_ends_the_model(runner: SpreadRunner) -> None:
    runner.crew._failed.wait = lambda timeout=None: False  # type: ignore[method-assign]
    with pytest.raises(WorkerError, match=r"a step of the spread model failed \(ZeroDivisionError: "):
        runner.crew.run(lambda: 1 / 0, Order.FINGERPRINT)
    assert gone(runner.crew.pids[0])


def test_what_fails_before_others_are_told_ends_nothing(runner: SpreadRunner) -> None:
    def refuse() -> None:
        raise UsageError("not now")

    with pytest.raises(UsageError, match="not now"):
        runner.crew.run(lambda: 1, Order.FINGERPRINT, before=refuse)
    assert runner.fingerprint()


def test_an_interrupt_leaves_the_ranks_together(runner: SpreadRunner) -> None:
    main, own, done = threading.main_thread().ident, runner.fingerprint, threading.Event()
    assert main is not None

    def slow() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        own()  # within an order: done by all
        done.set()

    with pytest.raises(KeyboardInterrupt):
        runner.crew.run(slow, Order.FINGERPRINT)
    assert done.is_set()
    assert runner.fingerprint() == runner.fingerprint()


def test_many_threads_ask(runner: SpreadRunner) -> None:
    expected, found = runner.whole_logits(IDS), list[torch.Tensor]()
    threads = [threading.Thread(target=lambda: found.append(runner.whole_logits(IDS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(found) == 6
    assert all(torch.equal(one, expected) for one in found)


def test_closing_leaves_nothing(folder: Path) -> None:
    runner, before = begun(folder), threading.active_count()
    state, [pid], place = runner.new_state(), runner.crew.pids, Path(runner.crew.setup.store).parent
    assert place.exists()
    runner.crew.close()
    runner.crew.close()
    assert gone(pid)
    assert not place.exists()
    assert threading.active_count() == before - 2
    state.close()
    with pytest.raises(UsageError, match="the model is closed"):
        runner.new_state()


def test_a_model_that_nobody_has_any_more_leaves_nothing(folder: Path) -> None:
    runner = begun(folder)
    [pid] = runner.crew.pids
    del runner
    gc.collect()
    assert gone(pid)


PROGRAM = """
import sys, octavo
model = octavo.load(sys.argv[1], workers=2, chunk=64)
print(*model.runner.crew.pids, flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["end", "wait"])
def test_a_program_that_ends_or_is_killed_leaves_nothing(how: str, folder: Path) -> None:
    line = [sys.executable, "-c", PROGRAM, str(folder), how]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        if how == "wait":
            program.kill()
        assert program.wait(SECONDS) == (0 if how == "end" else -signal.SIGKILL)
    assert gone(pid)


@pytest.mark.parametrize(("expert", "error"), [(1, CheckpointError), (4, WorkerError)], ids=["here", "there"])
def test_a_share_that_cannot_be_read(expert: int, error: type[Exception], tmp_path: Path) -> None:
    folder = spread_folder(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors[f"layers.1.ffn.experts.{expert}.w1.weight"][:] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    threads = threading.active_count()
    with pytest.raises(error, match=r"'layers.1.ffn.experts.\d.w1.weight' in model.safetensors holds a value"):
        begun(folder)
    assert threading.active_count() == threads
