"""Steps of few tokens, captured once and replayed.

Covers: `StepGraphs`: one captured step for every power of two of tokens and of pages, its inputs in buffers that
stay where they are, all graphs in one memory pool. On a device without graphs (the CPU, where Triton's interpreter runs
the kernels) the same step runs each time. Does not cover: who the tokens belong to (`runner`), capturing (`replay`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octavo.cache.slots import Slots, power_of_two
from octavo.engine.gpu.replay import Replay, Staging
from octavo.kernels.paged import Places
from octavo.model.gpu.forward import GpuModel, Seen, Step

_LEAST_PAGES = 16
_TOKENS, _SLOTS, _POSITIONS, _RECENT = range(4)  # rows of a step's input


@dataclass(frozen=True)
class StepInput:
    """What a step reads: tokens [T], slot (one for all, or [T]) and position [T] of each, each token and those before
    it [T, n] for Engram."""

    tokens: np.ndarray
    slots: np.ndarray | int
    positions: np.ndarray
    recent: np.ndarray | None = None


@dataclass(frozen=True)
class StepResult:
    """Logits FP32 [T, V], streams [T, M, D] and attention mass by layer; the next step overwrites them."""

    logits: Tensor
    streams: Tensor
    seen: tuple[Seen, ...]

    def first(self, count: int) -> StepResult:
        """That of the first `count` tokens."""
        if count == len(self.logits):
            return self
        return StepResult(self.logits[:count], self.streams[:count], tuple(one.first(count) for one in self.seen))


class _Prepared:
    """One step: the buffers that it reads, what it leaves, its launches."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs
        self.staging = Staging(inputs.shape[0], inputs.shape[1], inputs.device)
        self.result: StepResult
        self.replay: Replay


class StepGraphs:
    """Captured steps of `model` over `slots`. Not safe for use from several threads at once."""

    def __init__(self, model: GpuModel, slots: Slots) -> None:
        self._model, self._slots = model, slots
        engram = model.config.engram
        self._context = 0 if engram is None else engram.max_ngram_size
        self._steps: dict[tuple[int, int, int, bool], _Prepared] = {}
        self._pool = torch.cuda.graph_pool_handle() if slots.device.type == "cuda" else None
        self.count = 0
        """Steps run so far; the result of one is there until the next."""

    def __len__(self) -> int:
        """Different steps met so far."""
        return len(self._steps)

    def run(
        self, given: StepInput, *, most: int, pages: int, mass: bool = False, token: Tensor | None = None
    ) -> StepResult:
        """One step; `most` tokens of a sequence at most, all within their first `pages` pages. `token` int64 [1], on
        the device, takes the place of the only one of a step."""
        self.count += 1
        key = self._key(len(given.tokens), most, pages, mass)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = self._prepare(*key)
        self._write(given, step.staging.array())
        step.staging.send(step.inputs)
        if token is not None:
            assert step.inputs.shape[1] == 1, "one token of the device is the only one of a step"
            step.inputs[_TOKENS].copy_(token)
            if self._context:
                step.inputs[_RECENT].copy_(token)
        step.replay()
        return step.result.first(len(given.tokens))

    def captured(self, tokens: int, most: int, pages: int) -> Callable[[], None]:
        """A step that `run` has met, on the inputs it had last; for benchmarks."""
        return self._steps[self._key(tokens, most, pages, False)].replay

    def _key(self, tokens: int, most: int, pages: int, mass: bool) -> tuple[int, int, int, bool]:
        return power_of_two(tokens), most, min(max(_LEAST_PAGES, power_of_two(pages)), self._slots.pages), mass

    def _write(self, given: StepInput, to: np.ndarray) -> None:
        """All numbers into int64 [3 + n, width], filled up with rows that do nothing: one copy is enough."""
        count = len(given.tokens)
        to[_TOKENS, :count], to[_SLOTS, :count], to[_POSITIONS, :count] = given.tokens, given.slots, given.positions
        if self._context:
            assert given.recent is not None
            to[_RECENT:, :count] = given.recent.T
        if count < to.shape[1]:
            to[:, count:] = 0
            to[_POSITIONS, count:] = -1

    def _prepare(self, tokens: int, most: int, width: int, mass: bool) -> _Prepared:
        slots, device = self._slots, self._slots.device
        with torch.inference_mode(False):
            inputs = torch.zeros(3 + self._context, tokens, dtype=torch.int64, device=device)
            table = torch.zeros(slots.count, width, dtype=torch.int32, device=device)
        layers, made = slots.layers(table), _Prepared(inputs)

        def run() -> None:
            table.copy_(slots.table[:, :width])
            places = Places(sequence=inputs[_SLOTS].int(), position=inputs[_POSITIONS].int())
            recent = inputs[_RECENT:].T.contiguous() if self._context else None
            seen: list[Seen] | None = [] if mass else None
            streams = self._model.forward(Step(inputs[_TOKENS], places, most, recent), layers, seen=seen)
            made.result = StepResult(self._model.logits(streams), streams, tuple(seen or ()))

        made.replay = Replay(run, self._pool)
        return made
