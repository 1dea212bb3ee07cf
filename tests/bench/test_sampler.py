"""Samples: arithmetic of launches, and the GPU's method on a GPU that is made up, whose clock only calls advance."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.bench import sampler
from octavo.bench.sampler import CpuSampler, CudaSampler, launches
from tests.bench.toys import CPU


@pytest.mark.parametrize(("seconds", "calls"), [(1e-6, 20), (0.0125, 20), (0.05, 5), (10.0, 3), (0.0, 20)])
def test_long_calls_are_launched_less_often(seconds: float, calls: int) -> None:
    assert launches(seconds) == calls


def test_cpu_sample_is_the_time_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"wall": 0.0, "processor": 0.0}
    clocks = SimpleNamespace(perf_counter=lambda: now["wall"], process_time=lambda: now["processor"])
    monkeypatch.setattr(sampler, "time", clocks)

    def call() -> None:
        now["wall"] += 0.003
        now["processor"] += 0.006

    sample = sampler.sampler(call, CPU)
    assert isinstance(sample, CpuSampler)
    assert (sample.about["calls"], sample.series) == (7, "wall")  # the fewest that take 20 ms
    assert sample() == {"wall": pytest.approx(0.003), "processor": pytest.approx(0.006)}


class Gpu:
    """Device time in ms; what a call, a launch outside a graph and a flush take; and whether it captures and waits."""

    def __init__(self, *, call_ms: float, launch_ms: float = 0.5, waits: bool = False, captures: bool = True) -> None:
        self.now = 0.0
        self.call_ms, self.launch_ms, self.waits, self.captures = call_ms, launch_ms, waits, captures
        self.flushes = self.sizes = 0
        self._errors = False
        self._graph: Any = None
        self.graphs: list[Any] = []
        self.cuda = SimpleNamespace(
            Event=self._event, Stream=lambda: SimpleNamespace(wait_stream=lambda other: None),
            current_stream=lambda: SimpleNamespace(wait_stream=lambda other: None), synchronize=lambda: None,
            stream=lambda side: contextlib.nullcontext(), CUDAGraph=self._new_graph, graph=self._capturing,
            get_sync_debug_mode=lambda: 0, set_sync_debug_mode=self._mode,
        )  # fmt: skip
        self.uint8 = "uint8"

    def empty(self, size: int, **_: Any) -> Any:
        assert size == 256 * 2**20

        def zero() -> None:
            self.now += 0.1
            self.flushes += 1

        return SimpleNamespace(zero_=zero)

    def call(self) -> None:
        """The call under test."""
        if self._graph is not None:
            self._graph.calls += 1
            return
        if self._errors and self.waits:
            raise RuntimeError("called a synchronizing\nCUDA operation")
        self.now += self.call_ms + self.launch_ms

    def _mode(self, mode: Any) -> None:
        self._errors = mode == "error"

    def _event(self, **_: Any) -> Any:
        event = SimpleNamespace(at=None, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda later: later.at - event.at
        return event

    def _new_graph(self) -> Any:
        graph = SimpleNamespace(calls=0, pool=lambda: "pool")

        def replay() -> None:
            self.now += graph.calls * self.call_ms

        graph.replay = replay
        self.graphs.append(graph)
        return graph

    @contextlib.contextmanager
    def _capturing(self, graph: Any, pool: Any = None):
        if not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        self._graph = graph
        yield
        self._graph = None


def test_short_calls_are_replayed_from_one_graph_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(call_ms=0.004, launch_ms=0.01)
    monkeypatch.setattr(sampler, "torch", gpu)
    sample = CudaSampler(gpu.call)
    assert sample.about == {"how": "graph", "calls": 20}
    assert [graph.calls for graph in gpu.graphs] == [1, 20]
    assert sample() == {"cold": pytest.approx(4e-6), "warm": pytest.approx(4e-6)}
    assert gpu.flushes == 20


def test_long_calls_are_one_graph_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(call_ms=50.0, launch_ms=0.0)
    monkeypatch.setattr(sampler, "torch", gpu)
    sample = CudaSampler(gpu.call)
    assert sample.about == {"how": "graph", "calls": 5}
    assert [graph.calls for graph in gpu.graphs] == [1]
    assert sample() == {"cold": pytest.approx(0.05), "warm": pytest.approx(0.05)}


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (Gpu(call_ms=0.004, waits=True), "called a synchronizing CUDA operation"),
        (Gpu(call_ms=0.004, captures=False), "operation not permitted when stream is capturing"),
    ],
)
def test_what_no_graph_holds_is_launched_and_told(gpu: Gpu, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "torch", gpu)
    sample = CudaSampler(gpu.call)
    assert sample.about == {"how": "launches", "calls": 20, "no_graph": why}
    assert sample() == {"cold": pytest.approx(5.04e-4), "warm": pytest.approx(5.04e-4)}
    assert not gpu._errors
