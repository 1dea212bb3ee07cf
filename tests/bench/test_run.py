"""Runs: the record after every case, the budget, starting over after a crash, real processes that die or hang."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from octavo.bench import run as module
from octavo.bench.case import Case
from octavo.bench.record import BenchError, read_json
from octavo.bench.run import Worker, WorkerGone, run
from octavo.bench.selection import Plan
from octavo.config.errors import UsageError
from tests.bench.toys import Clock, case


class Fake:
    """Workers that answer by name: crash, hang, lost, or right; every case takes 10 s of a made-up clock."""

    def __init__(self, out: Path | None = None) -> None:
        self.clock, self.started, self.closed, self.out = Clock(), 0, 0, out
        self.requests: list[dict[str, Any]] = []
        self.running: list[Any] = []

    def start(self, device: str) -> Fake:
        self.started += 1
        return self

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        self.requests.append(request)
        if "hello" in request:
            return {"device": {"device": "made up"}, "rates": {"bandwidth": 1.0} if request["rates"] else None}
        if self.out is not None:
            self.running.append(read_json(self.out)["running"])
        op, name, size = request["case"]
        self.clock.now += min(10, seconds)
        if name == "crash":
            raise WorkerGone("the process ended with exit code -11")
        if seconds < 10:
            raise WorkerGone(f"took longer than {seconds:.0f} s")
        outcome = {"op": op, "name": name, "size": size, "status": "right", "error": 0.0, "tolerance": 1.0}
        return {"outcome": outcome, "lost": name == "lost"}

    def close(self) -> None:
        self.closed += 1

    def go(self, cases: list[Case], **plan: Any) -> dict[str, Any]:
        given = Plan(**({"device": "cpu"} | plan))
        return run(given, self.out, cases=cases, start=self.start, clock=self.clock)


def states(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["name"], one["status"]) for one in record["cases"]]


def test_the_record_is_written_after_every_case(tmp_path: Path) -> None:
    out, seen = tmp_path / "deep" / "record.json", []
    fake = Fake(out)
    record = run(
        Plan(device="cpu"), out, cases=[case("a"), case("b")], start=fake.start, clock=fake.clock,
        each=lambda outcome: seen.append((outcome["name"], len(read_json(out)["cases"]), read_json(out)["finished"])),
    )  # fmt: skip
    assert seen == [("a", 1, False), ("b", 2, False)]
    assert fake.running == ["double a full", "double b full"]
    written = read_json(out)
    assert written == json.loads(json.dumps(record))
    assert (written["schema"], written["task"], written["finished"], written["running"]) == (1, "kernels", True, None)
    assert written["about"]["device"] == "made up"
    assert written["rates"] == {"bandwidth": 1.0}
    assert written["plan"]["device"] == "cpu"
    assert fake.closed == 1


def test_what_a_case_is_asked_for() -> None:
    fake = Fake()
    fake.go([case("a"), case("b", size="tiny")])
    assert [request.get("timed") for request in fake.requests] == [None, True, False]
    checking = Fake()
    record = checking.go([case("a")], check_only=True)
    assert checking.requests[0] == {"hello": "cpu", "rates": False}
    assert (checking.requests[1]["timed"], record["rates"]) == (False, None)


def test_a_crash_costs_one_case_and_a_lost_device_a_process() -> None:
    fake = Fake()
    record = fake.go([case("crash"), case("a"), case("lost"), case("b")])
    assert states(record) == [("crash", "failed"), ("a", "right"), ("lost", "right"), ("b", "right")]
    assert record["cases"][0]["message"] == "the process ended with exit code -11"
    assert (fake.started, fake.closed) == (3, 3)
    assert sum("hello" in request for request in fake.requests) == 1  # rates are those of the run's beginning


def test_no_case_begins_after_the_budget_and_none_outlives_it() -> None:
    fake = Fake()
    record = fake.go([case(name) for name in "abcd"], seconds=25)
    assert states(record) == [("a", "right"), ("b", "right"), ("c", "not reached"), ("d", "not reached")]
    assert {one["message"] for one in record["cases"][2:]} == {"the budget of 25 s was spent"}
    assert fake.clock.now == 25
    assert fake.started == 1
    assert record["finished"]


def test_an_interrupt_keeps_what_was_done(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    fake = Fake(out)

    def stop(outcome: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Plan(device="cpu"), out, cases=[case("a"), case("b")], start=fake.start, clock=fake.clock, each=stop)
    assert states(read_json(out)) == [("a", "right")]
    assert not read_json(out)["finished"]
    assert fake.closed == 1


def test_a_device_that_cannot_be_measured_is_an_error() -> None:
    class Dead(Fake):
        def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
            raise WorkerGone("the process ended with exit code 1")

    with pytest.raises(BenchError, match="cpu could not be measured: the process ended with exit code 1"):
        Dead().go([case("a")])


def test_no_gpu_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no GPU here"):
        run(Plan(device="cuda"), None, cases=[case("a", devices=("cuda",))])


ECHO = """
import sys, os, json, time
for line in sys.stdin:
    request = json.loads(line)
    if request.get("die"):
        os._exit(7)
    if request.get("hang"):
        time.sleep(600)
    print(json.dumps({"got": request, "interpret": os.environ.get("TRITON_INTERPRET")}), flush=True)
"""


def test_a_process_answers_dies_and_hangs() -> None:
    command = [sys.executable, "-c", ECHO]
    one = Worker("cpu", command)
    assert one.ask({"a": 1}, 60) == {"got": {"a": 1}, "interpret": "1"}
    with pytest.raises(WorkerGone, match="the process ended with exit code 7"):
        one.ask({"die": True}, 60)
    with pytest.raises(WorkerGone, match="exit code 7"):
        one.ask({"a": 2}, 60)
    one.close()
    other = Worker("cuda", command)
    assert other.ask({}, 60)["interpret"] is None
    with pytest.raises(WorkerGone, match="took longer than 0 s"):
        other.ask({"hang": True}, 0.2)
    other.close()
