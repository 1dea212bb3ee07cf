"""The process that touches the device: its requests and answers, and its end when the device is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octavo.bench import worker
from octavo.bench.bounds import Rates
from octavo.bench.worker import describe, lost, serve
from tests.bench.toys import CPU, case, raising

RATES = Rates(device="made up", bandwidth=8.0, peaks={"fp32": 6.0})
CASES = [case("good", size="tiny"), case("bad", size="tiny", run=raising(ValueError("no")))]


@pytest.fixture(autouse=True)
def _cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "all_cases", lambda: CASES)


def answers(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    serve(map(json.dumps, requests), found.append)
    return json.loads(json.dumps(found))


def asked(name: str) -> dict[str, Any]:
    return {"case": ["double", name, "tiny"], "timed": False, "device": "cpu", "rates": RATES.as_dict()}


def test_hello_describes_and_measures_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "measure_rates", lambda device: RATES)
    bare, measured = answers({"hello": "cpu", "rates": False}, {"hello": "cpu", "rates": True})
    assert bare == {"device": {}, "rates": None}
    assert Rates.from_dict(measured["rates"]) == RATES


def test_a_case_after_another_whatever_becomes_of_it() -> None:
    bad, good = answers(asked("bad"), asked("good"))
    assert (bad["outcome"]["status"], bad["outcome"]["message"], bad["lost"]) == ("failed", "ValueError: no", False)
    assert (good["outcome"]["status"], good["lost"]) == ("right", False)


def test_a_lost_device_ends_the_process_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "lost", lambda device: "illegal address")
    (only,) = answers(asked("bad"), asked("good"))
    assert only["lost"]
    assert only["outcome"]["message"] == "ValueError: no; the device was lost to this process"


def test_a_cpu_is_never_lost() -> None:
    assert lost(CPU) is None
    assert describe(CPU) == {}
