"""A run over many cases: one at a time in a process of its own, written down after every one.

Covers: the budget, the limit of one case, starting over after a crash, the record. Does not cover: what is measured
(`measure`), the figures (`report`).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from octavo.bench.case import Case
from octavo.bench.record import SCHEMA, BenchError, finite, write_json
from octavo.bench.selection import Plan, key, select
from octavo.bench.surroundings import gpu, surroundings
from octavo.config.errors import UsageError

CASE_SECONDS = 180.0  # a case that takes longer hangs
START_SECONDS = 180.0  # importing, and measuring the device
_PACKAGES = ("torch", "triton", "numpy", "octavo")


class WorkerGone(Exception):
    """The process ended or did not answer in time; the message says which."""


class Asked(Protocol):
    """What a run needs of a worker: answers to requests, and an end."""

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer, or WorkerGone."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Worker:
    """`octavo.bench.worker` in a process of its own."""

    def __init__(self, device: str, command: Sequence[str] | None = None) -> None:
        env = os.environ | {"PYTHONPATH": os.pathsep.join([_parent(), *_given("PYTHONPATH")])}
        env["TRITON_INTERPRET"] = "1"  # on a CPU Triton's kernels run in its interpreter
        if device == "cuda":
            del env["TRITON_INTERPRET"]
        line = command or [sys.executable, "-m", "octavo.bench.worker"]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to `request`; WorkerGone, and the process ended, when there is none within `seconds`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            self.close()
            raise WorkerGone(f"took longer than {seconds:.0f} s") from None
        except BrokenPipeError:
            line = None
        if line is None:
            raise WorkerGone(f"the process ended with exit code {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process at once: it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a request that the process did not read
                    pipe.close()


def _parent() -> str:
    return str(Path(__file__).resolve().parents[2])


def _given(name: str) -> list[str]:
    return [os.environ[name]] if os.environ.get(name) else []


def run(
    plan: Plan,
    out: Path | None,
    *,
    each: Callable[[dict[str, Any]], None] = lambda outcome: None,
    cases: Sequence[Case] | None = None,
    start: Callable[[str], Asked] = Worker,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Measure the cases of `plan`, calling `each` with every outcome and writing the record to `out` after each.

    A case is not begun once the budget (`plan.seconds`) is spent, and ended when it outlives it. UsageError for a
    choice without cases or a GPU that is not there, BenchError when the device cannot be measured.
    """
    deadline = clock() + (float("inf") if plan.seconds is None else plan.seconds)
    pending = select(plan) if cases is None else list(cases)
    if plan.device == "cuda" and start is Worker and not torch.cuda.is_available():
        raise UsageError("device is cuda, but torch sees no GPU here")
    record = _new(plan)
    worker = start(plan.device)
    try:
        _hello(record, worker, plan, min(START_SECONDS, deadline - clock()))
        while pending:
            case = pending.pop(0)
            left = deadline - clock()
            if left <= 0:
                _add(record, out, each, _spent(case, plan))
                continue
            record["running"] = " ".join(key(case))
            _write(record, out)
            request = {"case": key(case), "timed": plan.times(case), "device": plan.device, "rates": record["rates"]}
            try:
                answer = worker.ask(request, min(CASE_SECONDS, left))
            except WorkerGone as gone:
                ended = _spent(case, plan) if clock() >= deadline else _named(case, "failed", str(gone))
                answer = {"outcome": ended, "lost": True}
            _add(record, out, each, answer["outcome"])
            if answer["lost"] and pending and clock() < deadline:
                worker.close()
                worker = start(plan.device)
    finally:
        worker.close()
        _write(record, out)
    record["finished"] = True
    _write(record, out)
    return record


def _new(plan: Plan) -> dict[str, Any]:
    about = surroundings(_PACKAGES)
    if plan.device == "cuda":
        about |= {"cpu": about["device"], "device": "cuda", "gpu": gpu()}
    return {
        "schema": SCHEMA, "task": "kernels", "about": about, "plan": plan.as_dict(), "rates": None, "running": None,
        "finished": False, "cases": [],
    }  # fmt: skip


def _hello(record: dict[str, Any], worker: Asked, plan: Plan, seconds: float) -> None:
    """Let the worker say what the device is and, where anything will be timed, what it can do."""
    try:
        answer = worker.ask({"hello": plan.device, "rates": not plan.check_only}, seconds)
    except WorkerGone as gone:
        raise BenchError(f"{plan.device} could not be measured: {gone}") from None
    record["about"] |= answer["device"]
    record["rates"] = answer["rates"]


def _named(case: Case, status: str, message: str) -> dict[str, Any]:
    named = {"op": case.op, "name": case.name, "size": case.size, "headline": case.headline}
    return named | {"status": status, "message": message}


def _spent(case: Case, plan: Plan) -> dict[str, Any]:
    return _named(case, "not reached", f"the budget of {plan.seconds:.0f} s was spent")


def _add(
    record: dict[str, Any], out: Path | None, each: Callable[[dict[str, Any]], None], outcome: dict[str, Any]
) -> None:
    outcome = finite(outcome)
    record["cases"].append(outcome)
    record["running"] = None
    _write(record, out)
    each(outcome)


def _write(record: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_json(out, record)
