"""What is measured: one call of an operation with its inputs, its reference, its counted work and its peers.

Covers: `Case` and `Work`. The same cases are the correctness tests (tiny sizes, in CI) and the benchmarks (full sizes,
on the device they are for); a case whose result is wrong has no time. Does not cover: running (`run`), timing
(`timing`), the device's limits (`bounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Result = Tensor | tuple[Tensor, ...]
Unit = Literal["fp32", "bf16", "fp8"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Counted work of one call: FLOPs at the peak of `unit`, and bytes that must move between memory and chip."""

    flops: float
    bytes: float
    unit: Unit = "bf16"


def relative_l2(got: Result, wanted: Result) -> float:
    """Largest over the outputs of |got - wanted| / |wanted| in FP64; NaN anywhere gives NaN."""
    pairs = zip(_all(got), _all(wanted), strict=True)
    return max(float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)) for a, b in pairs)


def _all(result: Result) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


@dataclass(frozen=True, kw_only=True)
class Case:
    """`inputs(device)` makes the same tensors at every call; `run`, `reference` and every peer take them by name.

    `error(run's result, reference's result)` must stay at or below `tolerance`. `size` is tiny (CI, also in Triton's
    interpreter, FP32 inputs there) or full. `headline` numbers the ratio of the performance goals this case reports.
    `devices` are those that a full case runs and is timed on; tiny ones run everywhere and are checked only.
    """

    op: str
    name: str
    inputs: Callable[[torch.device], dict[str, Any]]
    run: Callable[..., Result]
    reference: Callable[..., Result]
    work: Work
    tolerance: float
    error: Callable[[Result, Result], float] = relative_l2
    peers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    size: Literal["tiny", "full"] = "full"
    headline: int | None = None
    devices: tuple[Literal["cpu", "cuda"], ...] = ("cuda",)
