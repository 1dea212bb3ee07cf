"""What a device can do, measured in the same run, and the least time that counted work takes on it.

Covers: `Rates` (bandwidth and the peak of each arithmetic unit, measured, beside the data sheet), the bound of a
`Work`, shares of it. Bound: max(FLOPs / peak of the unit, bytes / bandwidth). Does not cover: counting the work (the
cases), timing it (`timing`).

Measured on a GPU: a copy of 2 GiB (bytes read and written), products of 8192^3 in BF16 and FP8 (torch._scaled_mm) and
of 4096^3 in FP32 without TF32. On a CPU: reading 512 MiB once, a product of 2048^3 in FP32; its other units count at
the FP32 rate, since nothing there is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch

from octavo.bench.case import Unit, Work
from octavo.bench.sampler import Call, Sampler, sampler
from octavo.bench.timing import ROUNDS, Spread, alternate, warm_up

_COPY_BYTES = 2 * 2**30
_READ_BYTES = 512 * 2**20
_SIDES: dict[str, int] = {"bf16": 8192, "fp8": 8192, "fp32": 4096}
_CPU_SIDE = 2048
_WARM_SECONDS = 3.0
UNITS: tuple[Unit, ...] = get_args(Unit)

# Part of the device's name -> bytes/s and dense FLOP/s of the vendor's data sheet (SXM modules).
DATA_SHEETS: dict[str, dict[str, float]] = {
    "H100 80GB HBM3": {"bandwidth": 3.35e12, "fp32": 66.9e12, "bf16": 989.4e12, "fp8": 1978.9e12},
    "H200": {"bandwidth": 4.8e12, "fp32": 66.9e12, "bf16": 989.4e12, "fp8": 1978.9e12},
}


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Least seconds of a call and what sets them."""

    seconds: float
    by: Literal["flops", "bytes"]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Bytes/s and FLOP/s by unit as measured; `missing` says why a unit has none; `sheet` holds the data sheet's."""

    device: str
    bandwidth: float
    peaks: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)
    sheet: Mapping[str, float] | None = None

    def bound(self, work: Work) -> Bound | None:
        """The bound at measured rates; None where the unit has no rate on this device."""
        return _bound(work, self.bandwidth, self.peaks)

    def sheet_bound(self, work: Work) -> Bound | None:
        """The bound at the data sheet's rates; None where there is no sheet."""
        return None if self.sheet is None else _bound(work, self.sheet["bandwidth"], self.sheet)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the measured share of the data sheet."""
        sheet = self.sheet or {}
        found = {"bandwidth": self.bandwidth, **self.peaks}
        shares = {name: value / sheet[name] for name, value in found.items() if name in sheet}
        return asdict(self) | {"share_of_sheet": shares}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Rates:
        """What `as_dict` made."""
        names = ("device", "bandwidth", "peaks", "missing", "sheet")
        return cls(**{name: found[name] for name in names})


def _bound(work: Work, bandwidth: float, peaks: Mapping[str, float]) -> Bound | None:
    if work.unit not in peaks:
        return None
    arithmetic, moving = work.flops / peaks[work.unit], work.bytes / bandwidth
    return Bound(seconds=max(arithmetic, moving), by="flops" if arithmetic > moving else "bytes")


def data_sheet(name: str) -> dict[str, float] | None:
    """The data sheet's rates of the device called `name`, None if it is not in the table."""
    return next((rates for part, rates in DATA_SHEETS.items() if part in name), None)


def measure_rates(device: torch.device) -> Rates:
    """Measure `device`: some seconds on a GPU, some on a CPU."""
    if device.type == "cuda":
        return _gpu_rates(device)
    a = torch.randn(_CPU_SIDE, _CPU_SIDE)
    out = torch.empty_like(a)
    peak = 2 * _CPU_SIDE**3 / seconds_of(lambda: torch.mm(a, a, out=out), device)
    data = torch.ones(_READ_BYTES // 4)
    bandwidth = _READ_BYTES / seconds_of(data.sum, device)
    return Rates(device="cpu", bandwidth=bandwidth, peaks=dict.fromkeys(UNITS, peak))


def seconds_of(
    call: Call, device: torch.device, *, sampling: Callable[[Call, torch.device], Sampler] = sampler
) -> float:
    """Median seconds of `call`, warmed up; on a GPU with its inputs wherever the call before left them."""
    sample = sampling(call, device)
    series = "warm" if device.type == "cuda" else sample.series
    warm_up(lambda: sample()[series], cap_seconds=_WARM_SECONDS)
    return Spread.of(alternate({"": sample}, rounds=ROUNDS)[""][series]).median


def _gpu_rates(device: torch.device) -> Rates:
    name = torch.cuda.get_device_name(device)
    bandwidth = 2 * _COPY_BYTES / seconds_of(_copy(device), device)
    torch.cuda.empty_cache()
    peaks, missing = {}, {}
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        for unit in UNITS:
            try:
                peaks[unit] = 2 * _SIDES[unit] ** 3 / seconds_of(_product(unit, device), device)
            except (RuntimeError, AttributeError) as error:  # an older GPU, another torch: said, and the unit is bare
                missing[unit] = " ".join(str(error).split())[:200]
            torch.cuda.empty_cache()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return Rates(device=name, bandwidth=bandwidth, peaks=peaks, missing=missing, sheet=data_sheet(name))


def _copy(device: torch.device) -> Call:
    """A copy within the device's memory, on random data."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _product(unit: str, device: torch.device) -> Call:
    """A square product in the arithmetic of `unit`, on random data."""
    side = _SIDES[unit]
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    if unit == "fp8":
        one = torch.ones((), device=device)
        a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        scaled_mm = torch._scaled_mm  # pyright: ignore[reportPrivateImportUsage] - the public call is newer than 2.11
        return lambda: scaled_mm(a8, b8, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)
    dtype = torch.float32 if unit == "fp32" else torch.bfloat16
    a, b = a.to(dtype), b.to(dtype)
    out = torch.empty(side, side, device=device, dtype=dtype)
    return lambda: torch.mm(a, b, out=out)
