"""The parent's side: starts the child, hands it programs, kills it when one does not end, starts it again.

Covers: limits, the deadline, which deaths of the child are the program's memory, the missing package. Does not cover:
what happens inside (`child`, prelude.js), several programs at once (one `Sandbox` for each).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from octavo.config.errors import LimitError, SandboxError, UsageError
from octavo.sandbox.outcome import Outcome, Status, outcome_of

MAX_SOURCE_CHARS = 1 << 20
_START_SECONDS = 60.0
_GRACE_SECONDS = 0.5  # the child stops most programs itself and lives on; after this it is killed
_SPARE_BYTES = 96 << 20  # what V8 and Python take themselves for a program that fills its memory
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may take; checked on construction (LimitError).

    seconds: wall clock, 0.01 .. 3600. memory_bytes: of V8's heap, 8 MiB .. 4 GiB; looked at when garbage is collected:
    a single large array may pass it. On Linux the process can have twice as much and 96 MiB, buffers included.
    output_chars, result_chars: UTF-16 units written with `console`, and of the result's JSON, 0 .. 2^24.
    """

    seconds: float = 2.0
    memory_bytes: int = 64 * _MIB
    output_chars: int = 65_536
    result_chars: int = 65_536

    def __post_init__(self) -> None:
        ranges = {"seconds": (0.01, 3600), "memory_bytes": (8 * _MIB, 4096 * _MIB), "output_chars": (0, 1 << 24),
                  "result_chars": (0, 1 << 24)}  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            kind = int | float if name == "seconds" else int
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                what = "a number" if name == "seconds" else "an integer"
                raise LimitError(f"{name} is {value!r}; it must be {what} from {low} to {high}")


class Sandbox:
    """Runs programs one after another in a child process, each in a V8 of its own. Not for several threads at once.

    The child is started by the first program and again after it was killed: `starts` counts. `close`, or the end of the
    `with` block, kills it.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        """Raises UsageError, with the command that helps, where mini-racer is not installed."""
        if os.name != "posix":
            raise UsageError("the sandbox needs a POSIX system: it kills process groups")
        if importlib.util.find_spec("py_mini_racer") is None:
            raise UsageError(
                "JavaScript runs in the package mini-racer, which is not installed: pip install 'octavo[javascript]'"
            )
        self.limits = limits or Limits()
        self.starts = 0
        self._child: subprocess.Popen[bytes] | None = None
        heap = math.ceil(self.limits.memory_bytes / _MIB)
        extra = 2 * self.limits.memory_bytes + _SPARE_BYTES
        self._command = [sys.executable, "-I", str(Path(__file__).with_name("child.py")), str(heap), str(extra)]
        self._most_bytes = 1_000_000 + 12 * (self.limits.output_chars + self.limits.result_chars)
        self._messages = {
            Status.TIMEOUT: f"stopped after {self.limits.seconds:g} s",
            Status.MEMORY: f"stopped: more than {self.limits.memory_bytes:,} bytes of memory",
            Status.OUTPUT: f"stopped: more than {self.limits.output_chars:,} characters of output or "
            f"{self.limits.result_chars:,} of the result",
        }

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id; None when there is none now."""
        return None if self._child is None else self._child.pid

    def run(self, source: str) -> Outcome:
        """Run one program as a script, in sloppy mode unless it says otherwise.

        Whatever the program does is an outcome. Raises LimitError for a source of more than 2^20 characters, UsageError
        for one with a lone surrogate, SandboxError when the child cannot be started.
        """
        if len(source) > MAX_SOURCE_CHARS:
            raise LimitError(f"the program has {len(source):,} characters; at most {MAX_SOURCE_CHARS:,} are run")
        try:
            source.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(f"the program has a lone surrogate at character {error.start}") from None
        for _ in range(2):  # a child that something else killed is no word about the program: once more
            outcome = self._once(source)
            if outcome is not None:
                return outcome
        return Outcome(status=Status.ERROR, error="the process that ran the program died, twice")

    def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        _kill(child)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()

    def _once(self, source: str) -> Outcome | None:
        """The outcome; None when the child died of something that is not the program's memory."""
        child = self._started()
        limits = self.limits
        request = {"source": source, "seconds": limits.seconds, "output_chars": limits.output_chars}
        request["result_chars"] = limits.result_chars
        try:
            _write(child, request)
            report = self._read(child, time.monotonic() + limits.seconds + _GRACE_SECONDS)
            return outcome_of(report, self._messages)
        except TimeoutError:
            self.close()
            return Outcome(status=Status.TIMEOUT, error=self._messages[Status.TIMEOUT])
        except (EOFError, OSError, ValueError):
            said = _last_words(child)
            self.close()
            if b"out of memory" in said.lower() or b"memoryerror" in said.lower():
                return Outcome(status=Status.MEMORY, error=self._messages[Status.MEMORY])
            return None
        except BaseException:
            self.close()  # an interrupt: the next program must not read this one's report
            raise

    def _started(self) -> subprocess.Popen[bytes]:
        """The child, ready for a program: a session of its own, no environment but a time zone, no files but pipes."""
        if self._child is not None:
            return self._child
        pipe = subprocess.PIPE
        child = self._child = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=pipe, env={"TZ": "UTC"}, cwd="/", start_new_session=True,
            bufsize=0,
        )  # fmt: skip
        self.starts += 1
        try:
            self._read(child, time.monotonic() + _START_SECONDS)
        except (EOFError, OSError, ValueError) as error:
            said = _last_words(child).decode("utf-8", "replace").strip().splitlines() or [str(error)]
            self.close()
            raise SandboxError(f"the JavaScript process did not start: {said[-1]}") from None
        except BaseException:
            self.close()
            raise
        return child

    def _read(self, child: subprocess.Popen[bytes], deadline: float) -> Any:
        """One message. Raises TimeoutError at the deadline, EOFError at the child's end, ValueError for no message."""
        assert child.stdout is not None
        file = child.stdout.fileno()
        size = int.from_bytes(_bytes(file, 4, deadline), "big")
        if size > self._most_bytes:
            raise ValueError(f"a report of {size:,} bytes")
        return json.loads(_bytes(file, size, deadline))


def run(source: str, *, limits: Limits | None = None) -> Outcome:
    """Run one program in a child of its own; see `Sandbox.run`. For many programs a `Sandbox` is far quicker."""
    with Sandbox(limits) as sandbox:
        return sandbox.run(source)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the child's group, and wait for its end."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _write(child: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert child.stdin is not None
    data = json.dumps(message).encode("ascii")
    view = memoryview(len(data).to_bytes(4, "big") + data)
    while view:
        view = view[child.stdin.write(view) or 0 :]


def _bytes(file: int, count: int, deadline: float) -> bytes:
    """`count` bytes of a pipe. Raises TimeoutError at the deadline, EOFError where it ends before."""
    parts = []
    while count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([file], [], [], left)[0]:
            raise TimeoutError
        part = os.read(file, min(count, 1 << 20))
        if not part:
            raise EOFError("the process ended")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _last_words(child: subprocess.Popen[bytes]) -> bytes:
    """What a dead child wrote to stderr, at most 64 KiB; V8 says there what it died of."""
    assert child.stderr is not None
    _kill(child)
    return child.stderr.read(1 << 16) or b""
