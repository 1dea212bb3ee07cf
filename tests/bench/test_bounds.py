"""Bounds from rates and counted work, data sheets, and the measurement of this machine's rates at small sizes."""

from __future__ import annotations

import json

import pytest
import torch

from octavo.bench import bounds
from octavo.bench.bounds import Bound, Rates, data_sheet, measure_rates, seconds_of
from octavo.bench.case import Work
from tests.bench.toys import CPU, Toy

RATES = Rates(
    device="made up", bandwidth=100.0, peaks={"fp32": 10.0, "bf16": 1000.0}, missing={"fp8": "no such unit"},
    sheet={"bandwidth": 200.0, "fp32": 20.0, "bf16": 4000.0},
)  # fmt: skip


def test_the_longer_of_arithmetic_and_moving_is_the_bound() -> None:
    assert RATES.bound(Work(flops=50, bytes=100, unit="fp32")) == Bound(seconds=5.0, by="flops")
    assert RATES.bound(Work(flops=50, bytes=100, unit="bf16")) == Bound(seconds=1.0, by="bytes")
    assert RATES.sheet_bound(Work(flops=50, bytes=100, unit="fp32")) == Bound(seconds=2.5, by="flops")


def test_a_unit_without_rate_has_no_bound() -> None:
    work = Work(flops=50, bytes=100, unit="fp8")
    assert RATES.bound(work) is None
    assert RATES.sheet_bound(work) is None


def test_rates_go_through_json_with_their_share_of_the_sheet() -> None:
    found = json.loads(json.dumps(RATES.as_dict()))
    assert found["share_of_sheet"] == {"bandwidth": 0.5, "fp32": 0.5, "bf16": 0.25}
    assert Rates.from_dict(found) == RATES


def test_data_sheets_are_found_by_part_of_the_name() -> None:
    sheet = data_sheet("NVIDIA H200")
    assert sheet is not None
    assert sheet["bandwidth"] == 4.8e12
    assert data_sheet("NVIDIA H100 80GB HBM3") == bounds.DATA_SHEETS["H100 80GB HBM3"]
    assert data_sheet("NVIDIA GeForce GTX 1060") is None


def test_seconds_of_are_the_median_of_samples_once_warm() -> None:
    made = []

    def sampling(call: object, device: torch.device) -> Toy:
        made.append(call)
        return Toy(*[9.0] * 9, *[2.0] * 7, 5.0, 5.0, 5.0)  # 9 while warming up, then ten samples, most of them 2

    assert seconds_of(len, CPU, sampling=sampling) == 2.0
    assert made == [len]


def test_rates_of_a_cpu_divide_work_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_CPU_SIDE", 8)
    monkeypatch.setattr(bounds, "_READ_BYTES", 4096)
    times = iter([0.5, 0.25])

    def seconds(call, device: torch.device) -> float:
        call()
        return next(times)

    monkeypatch.setattr(bounds, "seconds_of", seconds)
    rates = measure_rates(CPU)
    assert rates.peaks == dict.fromkeys(("fp32", "bf16", "fp8"), 2 * 8**3 / 0.5)
    assert (rates.bandwidth, rates.device, rates.sheet) == (4096 / 0.25, "cpu", None)
