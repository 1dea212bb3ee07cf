"""Grammars of strangers tried in a child process before they are compiled in this one.

Covers: the limits, compiling with llguidance, the child, its start, deadline and end. Does not cover: what a source may
say, answers (`grammar`). Loads no torch.

Some grammars make llguidance compute for minutes, take gigabytes or overflow its stack, which ends the process,
whatever its own limits. The child has less time, memory and stack than there is here; it is killed when it is late.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.config.errors import BusyError, UsageError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_START_SECONDS = 60.0
_TRIAL_TOKENS = 24  # what a grammar costs shows in the first states of an answer
_TRIAL_STACK = 256 << 10  # bytes; threads have 512 KiB on macOS and 8 MiB on Linux
_CHILD_TRIALS = 200  # a new child then: what trials leave in memory counts against the later ones
_MESSAGE_CHARS = 240
_CHILD = (
    "import sys; sys.path[:0] = sys.argv[1:]; from octavo.engine.serving.trials import answer_trials; answer_trials()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarLimits:
    """What a grammar of a stranger may take.

    source_bytes: of its text as UTF-8. depth: of brackets within brackets in a schema. seconds, memory_bytes: of trying
    it, in the child process, beyond what the empty one takes (memory: where the system can limit it). cached: grammars
    kept, refused ones included. lexer_fuel, step_fuel, row_items, step_items, lexer_states, symbols: llguidance's own.
    """

    source_bytes: int = 64 << 10
    depth: int = 32
    seconds: float = 1.0
    memory_bytes: int = 256 << 20
    cached: int = 128
    lexer_fuel: int = 500_000
    step_fuel: int = 100_000
    row_items: int = 2_000
    step_items: int = 20_000
    lexer_states: int = 10_000
    symbols: int = 100_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise UsageError(f"{name} is {value}; it must be above 0")


class Trials:
    """The parent's side of the child process that tries grammars; one at a time, for several threads."""

    def __init__(self, vocabulary: dict[str, Any], limits: GrammarLimits) -> None:
        self._hello = json.dumps(vocabulary | {"limits": asdict(limits)})
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._tried = 0
        self._finish: weakref.finalize | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None when there is none now."""
        return None if self._child is None else self._child.pid

    def fault(self, text: str) -> str | None:
        """Why the grammar cannot be used, None if it can. Raises BusyError where no child can be started."""
        with self._lock:
            child = self._started()
            reply, late = _ask(child, json.dumps(text), self._limits.seconds)
            self._tried += 1
            if reply is None or self._tried == _CHILD_TRIALS:
                self._stop()
            if reply is not None:
                return reply["fault"]
        if late:
            return f"it takes more than {self._limits.seconds:g} s to compile; make it simpler"
        return f"it takes too much memory (the limit is {self._limits.memory_bytes:,} bytes) or is nested too deep"

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._finish is not None:
            self._finish()
        self._child = self._finish = None
        self._tried = 0

    def _started(self) -> subprocess.Popen[str]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._stop()
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen([sys.executable, "-I", "-c", _CHILD, *_packages()], stdin=pipe, stdout=pipe,
                                     stderr=subprocess.DEVNULL, text=True, encoding="ascii")  # fmt: skip
        except OSError as error:
            raise BusyError(f"the process that tries grammars could not be started: {error}") from None
        self._child, self._finish = child, weakref.finalize(self, _kill, child)
        if _ask(child, self._hello, _START_SECONDS)[0] is None:
            self._stop()
            raise BusyError("the process that tries grammars could not be started")
        return child


def _packages() -> list[str]:
    """Where this process has its packages from, in order: the child would look at neither PYTHONPATH nor here."""
    root = str(Path(__file__).resolve().parents[3])
    return [root, *(place for place in sys.path if Path(place).is_absolute() and place != root)]


def _ask(child: subprocess.Popen[str], line: str, seconds: float) -> tuple[Any, bool]:
    """The child's reply, or None and whether it was killed for being late."""
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line + "\n")
        child.stdin.flush()
        reply = child.stdout.readline()
    except OSError:
        reply = ""
    finally:
        timer.cancel()
    return (json.loads(reply) if reply.endswith("\n") else None), late.is_set()


def _kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):  # what was not read by the child is lost with it
            if pipe is not None:
                pipe.close()


def answer_trials() -> None:
    """The child process: reads the vocabulary and then grammars, a line of JSON each, and answers each with a line."""
    hello = json.loads(sys.stdin.readline())
    tokens = [bytes.fromhex(text) for text in hello["tokens"]]
    known = vocabulary(tokens, hello["controls"], hello["eos"], partial(_bytewise, tokens))
    limits = hello["limits"]
    threading.stack_size(_TRIAL_STACK)
    _try(known, '{"grammars":[{"lark_grammar":"start: \\"a\\""}]}', limits, [])
    print("{}", flush=True)
    _limit_memory(limits["memory_bytes"])
    for line in sys.stdin:
        _limit_time(limits["seconds"])
        faults: list[str] = []
        thread = threading.Thread(target=partial(_try, known, json.loads(line), limits, faults))
        thread.start()
        thread.join()
        print(json.dumps({"fault": faults[0] if faults else None}), flush=True)


def _bytewise(tokens: list[bytes], text: str) -> list[int]:
    """A token for each byte: enough for a trial, and always there in a byte-level vocabulary."""
    return [tokens.index(bytes([byte])) for byte in text.encode("utf-8")]


def _try(known: LLTokenizer, text: str, limits: dict[str, Any], faults: list[str]) -> None:
    """Compile and make the beginning of an answer; what went wrong is appended to `faults`."""
    matcher = compiled(known, text, limits)
    draw = np.random.default_rng(0)
    for _ in range(_TRIAL_TOKENS):
        if matcher.is_error() or matcher.is_stopped():
            break
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        may = bits.nonzero()[0]
        if not matcher.is_error() and len(may):
            matcher.consume_token(int(draw.choice(may)))
    if matcher.is_error():
        faults.append(reason(matcher.get_error()))


def _limit_time(seconds: float) -> None:
    """This process ends after so long a computation, where the system has such a limit, even if its parent is gone."""
    with suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        end = int(used.ru_utime + used.ru_stime + seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (end, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _limit_memory(more_bytes: int) -> None:
    """No more memory than `more_bytes` beside today's and no core dump, where the system has such limits."""
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        found = re.search(r"^VmData:\s+(\d+) kB$", _status(), re.M)
        if found:
            most = int(found[1]) * 1024 + more_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _status() -> str:
    try:
        return Path("/proc/self/status").read_text("ascii")
    except OSError:
        return ""


def vocabulary(tokens: list[bytes], controls: list[int], eos: int, encode: Callable[[str], list[int]]) -> LLTokenizer:
    """What llguidance knows of a tokenizer; `encode` gives ids of text."""
    from llguidance import LLTokenizer, TokenizerWrapper

    source = _Source(eos_token_id=eos, tokens=tokens, special_token_ids=controls, encode=encode)
    return LLTokenizer(TokenizerWrapper(source))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A vocabulary under the names that llguidance looks for."""

    eos_token_id: int
    tokens: list[bytes]
    special_token_ids: list[int]
    encode: Callable[[str], list[int]]
    bos_token_id: int | None = None

    def __call__(self, text: str) -> list[int]:
        return self.encode(text)


def compiled(known: LLTokenizer, text: str, limits: dict[str, Any]) -> LLMatcher:
    """A grammar at the beginning of an answer, maybe in error (`is_error`); `limits`: fields of GrammarLimits."""
    from llguidance import LLMatcher, LLParserLimits

    own = LLParserLimits(
        max_items_in_row=limits["row_items"],
        initial_lexer_fuel=limits["lexer_fuel"],
        step_lexer_fuel=limits["step_fuel"],
        step_max_items=limits["step_items"],
        max_lexer_states=limits["lexer_states"],
        max_grammar_size=limits["symbols"],
        verbose_errors=False,
    )
    matcher = LLMatcher(known, text, log_level=0, limits=own)
    if not matcher.is_error():
        matcher.compute_bitmask()  # a grammar without any answer shows only here
    return matcher


def reason(error: str) -> str:
    """What llguidance says, in one short line."""
    if error.startswith("NoExtension"):
        return "no text satisfies it"
    if error.startswith("panic"):
        return "llguidance cannot use it"
    lines = [line.strip() for line in error.splitlines() if line.strip() and not line.startswith("<non-verbose")]
    if len(lines) > 1 and "regex parse error" in error:
        lines = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
    text = " ".join(lines[0].split()) if lines else "unknown error"
    return text if len(text) <= _MESSAGE_CHARS else f"{text[:_MESSAGE_CHARS]} ..."
