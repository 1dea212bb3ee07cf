"""Cases and samplers that are made up, for the tests of the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from octavo.bench.case import Case, Work
from octavo.bench.sampler import Call

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
        "bound": {"seconds": 1.0, "by": "bytes", "share": 0.5},
        "peers": {"v1.2 eager": {"ratio": spread | {"count": 5}}, "other": {"message": "out of memory"}},
    }  # fmt: skip
    return given | changed


def record(*cases: dict[str, Any]) -> dict[str, Any]:
    """A record of kernels with these cases."""
    about = {"device": "made up", "date": "2026-11-26T00:00:00+00:00", "commit": "0123456789abcdef"}
    return {"schema": 1, "task": "kernels", "about": about, "plan": {"check_only": False}, "cases": list(cases)}
