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
from octavo.engine.gpu.replay import Captures, Replay, Staging
from octavo.kernels.paged import Places
from octavo.model.gpu.forward import GpuModel, Seen, Step

_LEAST_PAGES = 16
TOKENS, SLOTS, POSITIONS, RECENT = range(4)
"""Rows of a step's input."""


@dataclass(frozen=True)
class StepInput:
    """What a step reads: tokens [T], slot (one for all, or [T]) and position [T] of each, each token and those before
    it [T, n] for Engram."""

    tokens: np.ndarray
    slots: np.ndarray | int
    positions: np.ndarray
    recent: np.ndarray | None = None

    def fill(self, to: np.ndarray) -> None:
        """All numbers into int64 [3 + n, width], filled up with rows that do nothing: one copy is enough."""
        count = len(self.tokens)
        to[TOKENS, :count], to[SLOTS, :count], to[POSITIONS, :count] = self.tokens, self.slots, self.positions
        if self.recent is not None:
            to[RECENT:, :count] = self.recent.T
        if count < to.shape[1]:
            to[:, count:] = 0
            to[POSITIONS, count:] = -1


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


def nothing(context: int) -> StepInput:
    """No tokens, with `context` ids of each for Engram: a step that is all padding."""
    none = np.zeros(0, dtype=np.int64)
    return StepInput(none, 0, none, np.zeros((0, context), dtype=np.int64) if context else None)


def width_of(pages: int, most: int) -> int:
    """Columns of a step's page tables for `pages` pages of at most `most`: few widths are few captures."""
    return min(max(_LEAST_PAGES, power_of_two(pages)), most)


def widths(most: int) -> list[int]:
    """Every width that there is, the narrowest first."""
    found = [width_of(1, most)]
    while found[-1] < most:
        found.append(width_of(found[-1] + 1, most))
    return found


class _Prepared:
    """One step: the buffers that it reads, what it leaves, its launches."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs
        self.staging = Staging(inputs.shape[0], inputs.shape[1], inputs.device)
        self.result: StepResult
        self.replay: Replay


class StepGraphs:
    """Captured steps of `model` over `slots`. Not safe for use from several threads at once."""

    def __init__(self, model: GpuModel, slots: Slots, captures: Captures | None) -> None:
        self._model, self._slots, self._captures = model, slots, captures
        engram = model.config.engram
        self._context = 0 if engram is None else engram.max_ngram_size
        self._steps: dict[tuple[int, int, int, bool], _Prepared] = {}
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
        step = self._given(given, self._key(len(given.tokens), most, pages, mass))
        if token is not None:
            assert step.inputs.shape[1] == 1, "one token of the device is the only one of a step"
            step.inputs[TOKENS].copy_(token)
            if self._context:
                step.inputs[RECENT].copy_(token)
        step.replay()
        return step.result.first(len(given.tokens))

    @torch.inference_mode()
    def warm(self, tokens: int, *, most: int, pages: int, rehearse: bool = False) -> None:
        """Have such a step compiled and captured, or run it once as a rehearsal; it writes nowhere."""
        self.count += 1
        replay = self._given(nothing(self._context), self._key(tokens, most, pages, False)).replay
        if rehearse:
            return replay.rehearse()
        replay()
        replay()

    def passed(self) -> None:
        """Something else has run whose working memory is that of the steps: the newest result is there no more."""
        self.count += 1

    def captured(self, tokens: int, most: int, pages: int) -> Callable[[], None]:
        """A step that `run` has met, on the inputs it had last; for benchmarks."""
        return self._steps[self._key(tokens, most, pages, False)].replay

    def _key(self, tokens: int, most: int, pages: int, mass: bool) -> tuple[int, int, int, bool]:
        return power_of_two(tokens), most, width_of(pages, self._slots.pages), mass

    def _given(self, given: StepInput, key: tuple[int, int, int, bool]) -> _Prepared:
        """The step of this kind, what is given on its way to it."""
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = self._prepare(*key)
        assert self._context == 0 or given.recent is not None, "Engram reads the tokens before each"
        given.fill(step.staging.array())
        step.staging.send(step.inputs)
        return step

    def _prepare(self, tokens: int, most: int, width: int, mass: bool) -> _Prepared:
        slots, device = self._slots, self._slots.device
        with torch.inference_mode(False):
            inputs = torch.zeros(3 + self._context, tokens, dtype=torch.int64, device=device)
            table = torch.zeros(slots.count, width, dtype=torch.int32, device=device)
        layers, made = slots.layers(table), _Prepared(inputs)

        def run() -> None:
            table.copy_(slots.table[:, :width])
            places = Places(sequence=inputs[SLOTS].int(), position=inputs[POSITIONS].int())
            recent = inputs[RECENT:].T.contiguous() if self._context else None
            seen: list[Seen] | None = [] if mass else None
            streams = self._model.forward(Step(inputs[TOKENS], places, most, recent), layers, seen=seen)
            made.result = StepResult(self._model.logits(streams), streams, tuple(seen or ()))

        made.replay = Replay(run, self._captures)
        return made
