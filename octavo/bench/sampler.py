"""How one sample of a call is taken on each kind of device.

Covers: `CudaSampler` (device events around replays of a captured graph, with the L2 flushed before every call and
without) and `CpuSampler` (wall clock and processor time). Does not cover: warming up, order, medians (`timing`).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from octavo.bench.timing import Sample

FLUSH_BYTES = 256 * 2**20
LAUNCHES = 20
_FEWEST = 3
_LONG = 0.25  # seconds that the launches of one sample may take before there are fewer of them
_UNROLLED = 1e-3  # a call shorter than this is captured many times into one graph: replays would leave gaps
_CPU_SECONDS = 0.02  # of one sample on a CPU, far above the clock's steps
Call = Callable[[], Any]


class Sampler(Protocol):
    """Calling it gives seconds of one call by series; `series` is the one that shares and ratios are taken from."""

    series: str
    about: dict[str, Any]

    def __call__(self) -> Sample: ...


def sampler(call: Call, device: torch.device) -> Sampler:
    """The sampler of `call` on `device`; calls it a few times."""
    return CudaSampler(call) if device.type == "cuda" else CpuSampler(call)


def launches(seconds: float) -> int:
    """Calls of one sample: 20, fewer when one takes `seconds` above 12.5 ms, never below 3."""
    return max(_FEWEST, min(LAUNCHES, int(_LONG / max(seconds, 1e-9))))


class CpuSampler:
    """Wall-clock and processor seconds of a call, over as many calls as take 20 ms."""

    series = "wall"

    def __init__(self, call: Call) -> None:
        self._call = call
        call()
        start = time.perf_counter()
        call()
        once = max(time.perf_counter() - start, 1e-9)
        self._calls = max(1, math.ceil(_CPU_SECONDS / once))
        self.about: dict[str, Any] = {"how": "wall clock", "calls": self._calls}

    def __call__(self) -> Sample:
        wall, work = time.perf_counter(), time.process_time()
        for _ in range(self._calls):
            self._call()
        return {
            "wall": (time.perf_counter() - wall) / self._calls,
            "processor": (time.process_time() - work) / self._calls,
        }


class CudaSampler:
    """Device seconds of a call: "cold" with 256 MB written before each call, "warm" with calls behind one another.

    A call that neither waits for the device nor fails to be captured is replayed from graphs: one of a single call for
    cold samples, one of all calls for warm ones (a long call: the same one, replayed). Any other is launched plainly,
    and `about` says why; its cold samples hold whatever launching takes beyond the flush.
    """

    series = "cold"

    def __init__(self, call: Call) -> None:
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
        self._single = self._many = call
        for _ in range(2):
            call()
        once = self._between(call)
        self._launches = launches(once)
        self._inside = self._launches if once < _UNROLLED else 1
        why_not = waits(call)
        if why_not is None:
            why_not = self._capture(call)
        self.about: dict[str, Any] = {"how": "launches" if why_not else "graph", "calls": self._launches}
        if why_not:
            self.about["no_graph"] = why_not
            self._single, self._many, self._inside = call, call, 1

    def _capture(self, call: Call) -> str | None:
        """Capture both graphs; what went wrong, or None."""
        try:
            single = captured(call, 1)
            many = captured(call, self._inside, pool=single.pool()) if self._inside > 1 else single
        except RuntimeError as error:
            torch.cuda.synchronize()
            return _line(error)
        self._single, self._many = single.replay, many.replay
        return None

    def __call__(self) -> Sample:
        cold = []
        for _ in range(self._launches):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._flush.zero_()
            start.record()
            self._single()
            end.record()
            cold.append((start, end))
        repeats = self._launches // self._inside
        self._many()

        def warm() -> None:
            for _ in range(repeats):
                self._many()

        seconds = self._between(warm) / (repeats * self._inside)
        return {"cold": statistics.median(a.elapsed_time(b) for a, b in cold) / 1e3, "warm": seconds}

    @staticmethod
    def _between(action: Call) -> float:
        """Device seconds between an event before and one after `action`."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        action()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def waits(call: Call) -> str | None:
    """What torch says where `call` waits for the device, which no graph can hold; None if it does not."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        return _line(error)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return None


def captured(call: Call, times: int, *, pool: Any = None) -> torch.cuda.CUDAGraph:
    """A graph of `times` calls; they run on a side stream first, as capturing wants it. Graphs of one `pool` share
    their memory, so that none may count on another's results."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        for _ in range(times):
            call()
    return graph


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
