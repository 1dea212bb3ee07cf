"""Steps of few tokens, captured once and replayed.

Covers: `StepGraphs`: one captured step for every power of two of tokens and of pages, its inputs in buffers that
stay where they are, all graphs in one memory pool. On a device without graphs (the CPU, where Triton's interpreter runs
the kernels) the same step runs each time. Does not cover: who the tokens belong to (`runner`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octavo.cache.slots import Slots, power_of_two
from octavo.kernels.paged import Places
from octavo.model.gpu.forward import GpuModel, Seen, Step

_LEAST_PAGES = 16


@dataclass(frozen=True)
class StepInput:
    """What a step reads: tokens [T], slot and position of each, each token and those before it [T, n] for Engram."""

    tokens: np.ndarray
    slots: np.ndarray
    positions: np.ndarray
    recent: np.ndarray | None = None


@dataclass(frozen=True)
class StepResult:
    """Logits FP32 [T, V], streams [T, M, D] and attention mass by layer; the next step overwrites them."""

    logits: Tensor
    streams: Tensor
    seen: tuple[Seen, ...]


@dataclass
class _Captured:
    """One step: the buffer that it reads, what it leaves, its graph once there is one."""

    inputs: Tensor
    run: Callable[[], None]
    result: StepResult | None = None
    graph: torch.cuda.CUDAGraph | None = None


class StepGraphs:
    """Captured steps of `model` over `slots`. Not safe for use from several threads at once."""

    def __init__(self, model: GpuModel, slots: Slots) -> None:
        self._model, self._slots = model, slots
        engram = model.config.engram
        self._context = 0 if engram is None else engram.max_ngram_size
        self._steps: dict[tuple[int, int, int, bool], _Captured] = {}
        self._pool = torch.cuda.graph_pool_handle() if slots.device.type == "cuda" else None

    def __len__(self) -> int:
        """Steps captured so far."""
        return len(self._steps)

    def run(self, given: StepInput, *, most: int, pages: int, mass: bool = False) -> StepResult:
        """One step; `most` tokens of a sequence at most, all within their first `pages` pages."""
        count = len(given.tokens)
        key = self._key(count, most, pages, mass)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = self._prepare(*key)
        step.inputs.copy_(torch.from_numpy(self._packed(given, key[0])))
        if step.graph is None and self._pool is not None and step.result is not None:
            self._capture(step)
        if step.graph is not None:
            step.graph.replay()
        else:
            step.run()  # the first time kernels are compiled, which a capture must not see
        assert step.result is not None
        logits, streams, seen = step.result.logits, step.result.streams, step.result.seen
        return StepResult(logits[:count], streams[:count], tuple(one.first(count) for one in seen))

    def captured(self, tokens: int, most: int, pages: int) -> Callable[[], None]:
        """The replay of a step that `run` has captured, on the inputs it had last; for benchmarks."""
        step = self._steps[self._key(tokens, most, pages, False)]
        return step.run if step.graph is None else step.graph.replay

    def _key(self, tokens: int, most: int, pages: int, mass: bool) -> tuple[int, int, int, bool]:
        return power_of_two(tokens), most, min(max(_LEAST_PAGES, power_of_two(pages)), self._slots.pages), mass

    def _packed(self, given: StepInput, width: int) -> np.ndarray:
        """All numbers in one array int64 [3 + n, width], filled up with rows that do nothing: one copy is enough."""
        rows = [given.tokens, given.slots, given.positions]
        if self._context:
            assert given.recent is not None
            rows += list(given.recent.T)
        packed = np.zeros((len(rows), width), dtype=np.int64)
        packed[2] = -1
        packed[:, : len(given.tokens)] = rows
        return packed

    def _prepare(self, tokens: int, most: int, width: int, mass: bool) -> _Captured:
        slots, device = self._slots, self._slots.device
        with torch.inference_mode(False):
            inputs = torch.zeros(3 + self._context, tokens, dtype=torch.int64, device=device)
            table = torch.zeros(slots.count, width, dtype=torch.int32, device=device)
        layers = slots.layers(table)

        def run() -> None:
            table.copy_(slots.table[:, :width])
            places = Places(sequence=inputs[1].int(), position=inputs[2].int())
            recent = inputs[3:].T.contiguous() if self._context else None
            seen: list[Seen] | None = [] if mass else None
            streams = self._model.forward(Step(inputs[0], places, most, recent), layers, seen=seen)
            captured.result = StepResult(self._model.logits(streams), streams, tuple(seen or ()))

        captured = _Captured(inputs, run)
        return captured

    def _capture(self, step: _Captured) -> None:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self._pool):
            step.run()
        step.graph = graph
