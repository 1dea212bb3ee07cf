"""Cases and samplers that are made up, for the tests of the harness."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octavo.bench.case import Case, Work
from octavo.bench.sampler import Call
from octavo.bench.sources import Source, read_sources

CPU = torch.device("cpu")


def case(name: str = "one", **changed: Any) -> Case:
    """Doubling three numbers: 3 FLOPs, 24 bytes, FP32, full size, on the CPU."""
    given: dict[str, Any] = {
        "op": "double",
        "name": name,
        "inputs": lambda device: {"x": torch.tensor([1.0, 2.0, 3.0], device=device)},
        "run": lambda x: x * 2,
        "reference": lambda x: x + x,
        "work": Work(flops=3, bytes=24, unit="fp32"),
        "tolerance": 1e-6,
        "devices": ("cpu",),
    }
    return Case(**(given | changed))


def raising(error: BaseException) -> Callable[..., Tensor]:
    """A function that raises `error`."""

    def fail(**_: Any) -> Tensor:
        raise error

    return fail


class Clock:
    """Seconds that pass only when something says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Toy:
    """A sampler whose calls take given seconds, over and over."""

    series = "wall"

    def __init__(self, *seconds: float) -> None:
        self.about = {"how": "made up"}
        self._seconds = self._endless(seconds)

    @staticmethod
    def _endless(seconds: tuple[float, ...]) -> Iterator[float]:
        while True:
            yield from seconds

    def __call__(self) -> dict[str, float]:
        return {"wall": next(self._seconds), "processor": 1.0}


def sampling(*seconds: float) -> Callable[[Call, torch.device], Toy]:
    """Samplers for ours, then each peer: each takes its constant of `seconds`. They make the call once."""
    left = iter(seconds)

    def make(call: Call, device: torch.device) -> Toy:
        call()
        return Toy(next(left))

    return make


def outcome(name: str = "one", **changed: Any) -> dict[str, Any]:
    """A timed case as a record holds it: 2 s against a bound of 1 s, a peer twice as slow and one that failed."""
    spread = {"median": 2.0, "low": 1.9, "high": 2.2, "count": 10}
    given = {
        "op": "double", "name": name, "size": "full", "headline": None, "status": "ok", "error": 0.0, "tolerance": 1e-6,
        "series": "cold", "stable": True, "times": {"cold": spread, "warm": spread | {"median": 1.5}},
        "flops_per_second": 30.0, "bytes_per_second": 40.0, "bound": {"seconds": 1.0, "by": "bytes", "share": 0.5},
        "peers": {"v1.2 eager": {"ratio": spread | {"count": 5}}, "other": {"message": "out of memory"}},
    }  # fmt: skip
    return given | changed


def record(*cases: dict[str, Any], date: str = "2026-11-26T00:00:00+00:00", **about: Any) -> dict[str, Any]:
    """A record of kernels with these cases; products at 100 FLOP/s, a copy at 80 bytes/s."""
    about = {"device": "made up", "date": date, "commit": "0123456789abcdef"} | about
    rates = {"device": about["device"], "bandwidth": 80.0, "peaks": {"bf16": 100.0}}
    return {
        "schema": 1, "task": "kernels", "about": about, "plan": {"check_only": False}, "rates": rates,
        "cases": list(cases),
    }  # fmt: skip


def by_length(*lengths: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A record of speed by length on a CPU."""
    about = {"date": "2026-11-26T00:00:00+00:00", "commit": "0123456789abcdef", "device": "CPU 8086", "cores": 2}
    return about | {"model": "xs", "cpu_capability": "AVX2", "lengths": list(lengths)} | changed


def sliced(**changed: Any) -> dict[str, Any]:
    """A record of a slice of six layers on a GPU: reading twice, steps of batch 1 at 4,096 and 1,048,576 tokens."""
    read = {"share": 0.5, "share_experts_fp8": 0.25}
    steps = [(4096, 0.002, 0.5), (2**20, 0.003, 0.4)]
    given = {
        "date": "2026-11-26T00:00:00+00:00", "commit": "0123456789abcdef", "changed": True, "device": "CPU 8086",
        "rates": {"device": "NVIDIA H9"}, "main": "fp8", "index": "fp4", "chunk": 8192,
        "config": {"num_hidden_layers": 6, "hidden_size": 4096, "compress_ratios": [0, 0, 4, 128, 4, 128]},
        "prefill": [{"tokens": n, "seconds": n / 1e4, "bound_seconds": n / 2e4} | read for n in (8192, 2**20)],
        "decode": [
            {"batch": 1, "context": at, "seconds": {"median": s}, "bound_seconds": s * share, "share": share}
            for at, s, share in steps
        ],
    }  # fmt: skip
    return given | changed


def put(folder: Path, **files: Any) -> Path:
    """The folder with a JSON file for every name."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def sources(folder: Path, **files: Any) -> list[Source]:
    """The records read from such files."""
    return read_sources(put(folder, **files))
