"""The outcome of a case: nothing wrong has a time, whatever fails is told, times stand beside bound and peers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from octavo.bench import measure as module
from octavo.bench.bounds import Rates
from octavo.bench.case import Work
from octavo.bench.measure import measure, said
from octavo.bench.timing import WarmUp
from tests.bench.toys import CPU, case, raising, sampling

RATES = Rates(device="made up", bandwidth=8.0, peaks={"fp32": 6.0}, missing={"fp8": "no such unit"})


@pytest.fixture(autouse=True)
def _no_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "warm_up", lambda sample, *, cap_seconds: WarmUp(seconds=0.0, medians=3, stable=sample() < 50)
    )


def test_times_bound_share_and_ratio() -> None:
    found = measure(case(peers={"eager": lambda x: x + x}), CPU, RATES, timed=True, sampling=sampling(6.0, 12.0))
    assert (found["op"], found["name"], found["size"], found["status"]) == ("double", "one", "full", "ok")
    assert (found["error"], found["series"], found["stable"], found["how"]) == (0.0, "wall", True, "made up")
    assert found["times"]["wall"] == {"median": 6.0, "low": 6.0, "high": 6.0, "count": 10}
    assert found["work"] == {"flops": 3, "bytes": 24, "unit": "fp32"}
    assert (found["flops_per_second"], found["bytes_per_second"]) == (0.5, 4.0)
    bound = found["bound"]  # 3 / 6 s of arithmetic, 24 / 8 s of moving
    assert (bound["seconds"], bound["by"], bound["share"], bound["share_of_sheet"]) == (3.0, "bytes", 0.5, None)
    assert bound["shares"] == {"wall": 0.5, "processor": 3.0}
    assert found["peers"]["eager"]["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0, "count": 5}


@pytest.mark.parametrize("off", [1e-3, math.nan])
def test_a_wrong_case_has_no_time(off: float) -> None:
    def must_not(*_: Any) -> Any:
        raise AssertionError("a wrong case was timed")

    found = measure(case(run=lambda x: x * 2 + off), CPU, RATES, timed=True, sampling=must_not)
    assert found["status"] == "wrong"
    assert "above 1e-06" in found["message"]
    assert "times" not in found


def test_a_case_that_is_only_checked_has_its_error() -> None:
    found = measure(case(), CPU, None, timed=False)
    assert (found["status"], found["error"], found["tolerance"]) == ("right", 0.0, 1e-6)
    assert "times" not in found


@pytest.mark.parametrize("part", ["inputs", "run", "reference", "error"])
def test_a_failure_is_an_outcome(part: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("out of\nmemory")

    found = measure(case(**{part: fail}), CPU, RATES, timed=True, sampling=sampling(1.0))
    assert (found["status"], found["message"]) == ("failed", "OutOfMemoryError: out of memory")
    assert "times" not in found


def test_a_peer_that_fails_costs_its_own_time_only() -> None:
    peers = {"broken": raising(ValueError("no")), "eager": lambda x: x + x}
    found = measure(case(peers=peers), CPU, RATES, timed=True, sampling=sampling(2.0, 3.0))
    assert found["status"] == "ok"
    assert found["peers"]["broken"] == {"message": "ValueError: no"}
    assert found["peers"]["eager"]["ratio"]["median"] == 1.5


def test_an_interrupt_is_no_outcome() -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(case(run=raising(KeyboardInterrupt())), CPU, RATES, timed=True)


def test_warming_up_that_did_not_settle_is_told() -> None:
    assert measure(case(), CPU, RATES, timed=True, sampling=sampling(60.0))["stable"] is False


@pytest.mark.parametrize(("rates", "why"), [(None, "rates were not measured"), (RATES, "no such unit")])
def test_no_rate_no_share(rates: Rates | None, why: str) -> None:
    found = measure(case(work=Work(flops=1, bytes=1, unit="fp8")), CPU, rates, timed=True, sampling=sampling(1.0))
    assert found["status"] == "ok"
    assert found["bound"] == {"seconds": None, "share": None, "by": None, "message": why}


def test_messages_are_one_line_and_cut() -> None:
    assert said(ValueError("a\n b")) == "ValueError: a b"
    assert len(said(ValueError("x" * 1000))) == 400
