"""The first rank's hold on the others: their processes, one order after another, and what happens when one ends.

Covers: `Crew`. Does not cover: what orders do (`worker`), the engine's side of them (`runner`, `state`).

Everything that all ranks must do in one order runs on a thread of its own here, whoever asks for it: many threads may
ask, and an interrupt that hits one of them in the middle of a step leaves the ranks together. When a worker ends, all
who wait hear of it at once, and everything asked for later fails with the same words.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from octavo.config.errors import UsageError, WorkerError
from octavo.engine.spread.orders import Line, Order, Said, Setup, line_of, made
from octavo.engine.spread.team import Team

Given = TypeVar("Given")
_Task = tuple[Callable[[], Any], "Future[Any]", contextvars.Context]
_LEAVE_SECONDS = 10.0  # what a worker gets to end by itself
_WORD_SECONDS = 5.0  # an exchange fails before the process behind it is known to have ended


class Crew:
    """`count` - 1 workers; see the module docstring. Every method may be called from any thread."""

    def __init__(self, setup: Setup) -> None:
        """Start the workers, each of which is given `setup` with its own rank and the file where all meet."""
        self.count, self.team, self.weight_bytes = setup.count, None, ()
        self._folder = tempfile.TemporaryDirectory(prefix="octavo-spread-")
        self.setup = replace(setup, store=Path(self._folder.name) / "store")
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._tasks: queue.SimpleQueue[_Task | bytes | None] = queue.SimpleQueue()
        self._said: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(1, setup.count)]
        self.failure: str | None = None
        self._failed = threading.Event()
        self._closing = False
        self._lines: list[Line] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._run, name="octavo-spread", daemon=True)
        self._watchers: list[threading.Thread] = []
        self.team: Team | None
        self.weight_bytes: tuple[int, ...]
        try:
            for rank in range(1, setup.count):
                self._start(rank)
        except BaseException:
            self.close()
            raise
        self._thread.start()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return tuple(process.pid for process in self._processes)

    def begin(self, build: Callable[[Setup], tuple[Given, Team, int]]) -> Given:
        """What `build` makes of the first rank's setup, once all ranks have theirs; `build` gives its team and the
        bytes of its weights too. Raises what it raises, and WorkerError."""

        def joined() -> Given:
            made_here, self.team, own = build(self.setup)
            self.weight_bytes = (own, *self._answers(Said.READY))
            return made_here

        return self.run(joined)

    def number(self) -> int:
        """A number that no state and no rows had."""
        return next(self._numbers)

    def check(self) -> None:
        """Raise WorkerError where a worker has ended."""
        if self.failure is not None:
            raise WorkerError(self.failure)
        if self._closing:
            raise UsageError("the model is closed")

    def tell(self, order: Order, *args: Any) -> None:
        """Let all workers do something without waiting; behind all that was asked for before."""
        if not self._closing:
            self._tasks.put(made(order, *args))

    def run(
        self, own: Callable[[], Given], order: Order | None = None, *args: Any,
        before: Callable[[], None] | None = None,
    ) -> Given:  # fmt: skip
        """What `own` gives, done here while all workers follow `order`. `before` is done first, and what it raises is
        raised while nobody was told anything. Within an order (workers do the same): `own` alone.

        Raises WorkerError when a worker has ended or `own` failed, since the ranks are not together then.
        """
        if threading.current_thread() is self._thread:
            return own()
        self.check()

        def do() -> Given:
            if before is not None:
                before()
            if order is None:
                return own()
            self._send(made(order, *args))
            return self._together(own)

        future: Future[Given] = Future()
        with self._lock:
            self._waiting.add(future)
        if self.failure is not None:  # it may have come before this one waited
            self._fail(self.failure)
        self._tasks.put((do, future, contextvars.copy_context()))
        try:
            return future.result()
        finally:
            wait([future])  # an interrupt waits too: the ranks stay together
            with self._lock:
                self._waiting.discard(future)

    def _together(self, own: Callable[[], Given]) -> Given:
        """What `own` gives while the workers do the same."""
        assert self.team is not None
        self.team.open = True
        try:
            return own()
        except Exception as error:
            self._failed.wait(_WORD_SECONDS)
            self._fail(f"a step of the spread model failed ({line_of(error)}); it must be loaded again")
            assert self.failure is not None
            raise WorkerError(self.failure) from error
        finally:
            self.team.open = False

    def send_rows(self, number: int, rows: dict[Any, Any]) -> None:
        """Within `before`: bytes that workers read in the order that follows."""
        self._send(made(Order.ROWS, number, rows))

    def digests(self, state: int, own: Callable[[], str], before: Callable[[], None]) -> list[str]:
        """What a state holds on every rank, in their order."""
        return self.run(lambda: [own(), *self._answers(Said.DIGEST)], Order.DIGEST, state, before=before)

    def close(self) -> None:
        """Let the workers end; those that do not are ended. Twice is fine."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._tasks.put(made(Order.STOP))
        self._tasks.put(None)
        if threading.current_thread() is self._thread:  # the last who knew of it was a task
            self._send(made(Order.STOP))
        hopeless = self.failure is not None or self._thread.ident is None
        for process in self._processes:
            try:
                process.wait(0.0 if hopeless else _LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in (*self._watchers, self._thread):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(_LEAVE_SECONDS)
        for line in self._lines:
            line.close()
        self._folder.cleanup()

    # -- the thread that gives orders ----------------------------------------------------------------------------------

    def _run(self) -> None:
        if self.setup.device == "cpu":
            torch.set_num_threads(self.setup.threads)
        while True:
            task = self._tasks.get()
            if task is None:
                break
            if isinstance(task, bytes):
                if self.failure is None:
                    self._send(task)
                continue
            self._do(*task)
            del task  # what it holds may be a state, whose end is an order too
        if self.team is not None:
            self.team.close()

    def _do(self, do: Callable[[], Any], future: Future[Any], context: contextvars.Context) -> None:
        if future.done():
            return
        try:
            given = context.run(do)
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):
                future.set_exception(error)
        else:
            with contextlib.suppress(InvalidStateError):
                future.set_result(given)

    def _send(self, message: bytes) -> None:
        for line in self._lines:
            with contextlib.suppress(OSError):  # who watches it hears of its end
                line.send_made(message)

    def _answers(self, word: Said) -> list[Any]:
        """One answer of each worker."""
        answers = []
        for said in self._said:
            found = said.get()
            if found is None:
                assert self.failure is not None
                raise WorkerError(self.failure)
            assert found[0] is word, found
            answers.append(found[1])
        return answers

    # -- processes -----------------------------------------------------------------------------------------------------

    def _start(self, rank: int) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "octavo.engine.spread.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment,
                start_new_session=True,  # an interrupt at the keyboard is the first rank's to handle
            )  # fmt: skip
        self._processes.append(process)
        line = Line(Connection(ours.detach()))
        self._lines.append(line)
        line.send(Order.SETUP, replace(self.setup, rank=rank))
        watcher = threading.Thread(target=self._watch, args=(rank, process, line), daemon=True)
        self._watchers.append(watcher)
        watcher.start()

    def _watch(self, rank: int, process: subprocess.Popen[bytes], line: Line) -> None:
        """Take what a worker says, until it ends."""
        why: str | None = None
        with contextlib.suppress(EOFError, OSError):
            while True:
                said = line.receive()
                if said[0] is Said.FAILED:
                    why = said[1]
                else:
                    self._said[rank - 1].put(said)
        code = process.wait()
        if self._closing:
            return
        how = why or (f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
        self._fail(f"worker {rank} of {self.count} ended ({how}); the model must be loaded again")

    def _fail(self, why: str) -> None:
        """The first reason counts; all who wait hear it, and no worker goes on alone."""
        with self._lock:
            self.failure = self.failure or why
            waiting = list(self._waiting)
        self._failed.set()
        for future in waiting:
            with contextlib.suppress(InvalidStateError):
                future.set_exception(WorkerError(self.failure))
        for said in self._said:
            said.put(None)
        for process in self._processes:
            process.kill()
        if self.team is not None and self.setup.device == "cuda":
            self.team.close()  # an exchange under way on a GPU would wait for its time to be over
