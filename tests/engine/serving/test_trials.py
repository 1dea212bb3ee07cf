"""The child process that tries grammars: deadlines, deaths, restarts, its end with its owner."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from octavo.config.errors import BusyError, UsageError
from octavo.engine.serving.trials import GrammarLimits, Trials, reason

VOCABULARY = {"tokens": [bytes([byte]).hex() for byte in range(256)] + ["3c653e"], "controls": [256], "eos": 256}
LOOP = json.dumps({"allOf": [{"type": "string", "pattern": f".*a.{{{i}}}b.*"} for i in range(20)]})


def of_schema(source: str) -> str:
    return f'{{"grammars":[{{"json_schema":{source}}}]}}'


def of_lark(source: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": source}]})


GOOD = of_lark("start: /[a-z]+/")
DEEP = of_lark("start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(3000)) + '\nr3000: "a"')


@pytest.fixture
def trials() -> Iterator[Trials]:
    made = Trials(VOCABULARY, GrammarLimits(seconds=0.5))
    yield made
    made.close()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_child_tries_all_that_is_harmless(trials: Trials) -> None:
    assert trials.pid is None
    assert trials.fault(GOOD) is None
    first = trials.pid
    assert trials.fault(of_lark("start: missing")) is not None
    assert trials.fault(of_schema('{"type":"strng"}')) == "Invalid type: strng"
    assert trials.fault(GOOD) is None
    assert trials.pid == first


def test_a_late_child_is_killed_and_another_started(trials: Trials) -> None:
    assert trials.fault(GOOD) is None
    first = trials.pid
    start = time.perf_counter()
    assert trials.fault(of_schema(LOOP)) == "it takes more than 0.5 s to compile; make it simpler"
    assert time.perf_counter() - start < 5
    assert first is not None
    assert gone(first)
    assert trials.fault(GOOD) is None
    assert trials.pid not in (None, first)


def test_a_child_that_dies_tells_of_memory_or_depth(trials: Trials) -> None:
    assert trials.fault(DEEP) == "it takes too much memory (the limit is 268,435,456 bytes) or is nested too deep"
    assert trials.fault(GOOD) is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit of memory needs /proc")
def test_memory_is_limited() -> None:
    large = of_lark("start: /" + r"\w*" * 5000 + "/")
    trials = Trials(VOCABULARY, GrammarLimits(seconds=30, memory_bytes=32 << 20))
    assert trials.fault(large) == "it takes too much memory (the limit is 33,554,432 bytes) or is nested too deep"
    trials.close()


def test_a_child_killed_from_outside_is_replaced(trials: Trials) -> None:
    assert trials.fault(GOOD) is None
    first = trials.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert trials.fault(GOOD) is None
    assert trials.pid not in (None, first)


def test_a_child_is_replaced_after_many_trials(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.engine.serving.trials._CHILD_TRIALS", 3)
    assert [trials.fault(GOOD) for _ in range(2)] == [None, None]
    first = trials.pid
    assert trials.fault(GOOD) is None
    assert trials.pid is None
    assert trials.fault(GOOD) is None
    assert trials.pid not in (None, first)


def test_close_ends_the_child_and_may_be_called_twice(trials: Trials) -> None:
    trials.fault(GOOD)
    child = trials.pid
    trials.close()
    trials.close()
    assert child is not None
    assert gone(child)
    assert trials.pid is None


def test_forgotten_trials_leave_no_process() -> None:
    trials = Trials(VOCABULARY, GrammarLimits())
    trials.fault(GOOD)
    child = trials.pid
    del trials
    gc.collect()
    assert child is not None
    assert gone(child)


def test_the_child_ends_with_its_parent() -> None:
    code = (
        "import os\nfrom tests.engine.serving.test_trials import *\n"
        "trials = Trials(VOCABULARY, GrammarLimits())\ntrials.fault(GOOD)\nprint(trials.pid, flush=True)\nos._exit(0)"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    pid = int(run.stdout)
    deadline = time.monotonic() + 20
    while not (gone(pid) or _is_zombie(pid)):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def _is_zombie(pid: int) -> bool:
    """Ended, and waiting for an adoptive parent that does not ask."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_no_child_is_no_fault_of_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BusyError, match="the process that tries grammars could not be started"):
        Trials(VOCABULARY, GrammarLimits()).fault(GOOD)


def test_the_child_has_its_packages_from_where_this_process_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages named in PYTHONPATH alone were not found: here one that fails at once stands in such a place."""
    seen = tmp_path / "seen"
    (tmp_path / "llguidance.py").write_text(f"open({str(seen)!r}, 'w').close()\nraise ImportError('none')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BusyError, match="could not be started"):
        Trials(VOCABULARY, GrammarLimits()).fault(GOOD)
    assert seen.exists()


def test_threads_take_turns(trials: Trials) -> None:
    found: list[str | None] = []

    def work(bad: bool) -> None:
        for _ in range(10):
            found.append(trials.fault(of_schema('{"type":"strng"}') if bad else GOOD))

    threads = [threading.Thread(target=work, args=(bad,)) for bad in (True, False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(map(str, found)) == ["Invalid type: strng"] * 20 + ["None"] * 10


def test_limits_must_be_above_zero() -> None:
    for field in fields(GrammarLimits):
        with pytest.raises(UsageError, match=rf"^{field.name} is 0; it must be above 0$"):
            GrammarLimits(**{field.name: 0})


def test_reasons_are_one_short_line() -> None:
    assert reason("NoExtensionBias\n<non-verbose/>") == "no text satisfies it"
    assert reason("panic: index\n  0: f") == "llguidance cannot use it"
    assert reason("") == "unknown error"
    assert reason("a  b\nc") == "a b"
    assert reason("regex parse error:\n x\nerror: unclosed group\n 1 | y") == "unclosed group"
    assert len(reason("x" * 1000)) == 244
