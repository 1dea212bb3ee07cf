"""The `Runner` of a model on a GPU: chunks and steps of few tokens through the fused kernels, both as graphs.

Covers: `GpuRunner`, with the interface of `Runner`, and steps of many sequences at a time. Controls that take the model
apart (other picks, HCA off, losses) run through the plain model, on the same states. Does not cover: choosing tokens.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.pool import PagePool
from octavo.cache.slots import Slots, power_of_two
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.cache.view import Controls, Picks
from octavo.config.errors import LimitError
from octavo.engine.gpu.ahead import Ahead
from octavo.engine.gpu.binding import Binding
from octavo.engine.gpu.chunks import ROWS, ChunkSteps
from octavo.engine.gpu.compiling import compiled_only
from octavo.engine.gpu.drafts import Drafts, GpuDrafter
from octavo.engine.gpu.graphs import StepGraphs, StepInput, StepResult, widths
from octavo.engine.gpu.replay import Captures
from octavo.engine.gpu.state import GpuState
from octavo.engine.gpu.turn import Turn
from octavo.engine.runner import Runner, StepOutput
from octavo.model.attention import Mass
from octavo.model.block import BlockReport
from octavo.model.gpu.forward import GpuModel, Seen
from octavo.model.gpu.maps import FEW
from octavo.model.gpu.stage import GpuStage
from octavo.model.gpu.weights import take, take_stage
from octavo.model.stretch import Row, Stretch
from octavo.model.transformer import Transformer

GPU_CHUNK = 8192
"""Tokens read at a time: with more, an expert's tokens fill its tiles better; memory for scores and parts grows."""
_FEW = 16  # tokens of a sequence up to which they may be read together with those of others
_COMPILERS = 16  # threads that compile kernels at a time


class GpuRunner(Runner):
    """One model on a GPU and the pool its sequences live in, up to `slots` of them with their newest rows in place."""

    def __init__(
        self, model: Transformer, pool: PagePool, *, chunk: int = GPU_CHUNK, name: str = "this model", slots: int = 8
    ) -> None:
        super().__init__(model, pool, chunk=chunk, name=name)
        if pool.device.type == "cuda" and pool.device.index is not None:
            torch.cuda.set_device(pool.device)  # kernels are launched on the thread's current GPU
        weight = model.embed.weight
        weights = take(model, weight.dtype)
        self.gpu = GpuModel(model.config, weights, dtype=weight.dtype)
        self.slots = self._room(slots)
        self.binding = Binding(pool, self.slots)
        self._captures = Captures.on(pool.device)
        self._make_steps()
        self._drafts: Drafts | None = None
        self.silent = tuple(BlockReport(None, (), None) for _ in model.config.layer_ratios)
        """The reports of a step that was asked for none."""
        engram = model.config.engram
        self._context, self._pad = (0, 0) if engram is None else (engram.max_ngram_size, engram.pad_id)

    def _make_steps(self) -> None:
        self.graphs = StepGraphs(self.gpu, self.slots, self._captures)
        self.chunks = ChunkSteps(self.gpu, self.slots, self._captures)

    def _room(self, count: int) -> Slots:
        """Slots for sequences as long as the context, or the pool, lets them be."""
        pool, slab = self.pool, self.pool.first_slab()
        rows = {key: slab.rows(key) for key in pool.specs}
        pages = min(pool.slab_pages, pool.layout.pages(self.limit))
        return Slots(pool.layout, rows, self.gpu.weights.biases, count=count, pages=pages, device=pool.device)

    @property
    def is_shared(self) -> bool:
        """False: steps are replayed over buffers of which there is one set."""
        return False

    @torch.inference_mode()
    def seat(self, sequences: int) -> int:
        """As `Runner.seat`: a slot each, up to as many as are read through kernels for few tokens."""
        count = min(sequences, FEW)
        if count > self.slots.count:
            slots = self._room(count)
            self.binding.move(slots)
            self.slots, self._drafts = slots, None
            self._make_steps()
        return self.slots.count

    def warm(self, seconds: float) -> int:
        """As `Runner.warm`: kernels are compiled side by side, then steps and chunks captured, those of short sequences
        first."""
        until, made, cuda = time.monotonic() + seconds, 0, self.pool.device.type == "cuda"
        if cuda and self.pool.device.index is not None:
            torch.cuda.set_device(self.pool.device)  # of this thread, which need not be the one that made the runner
        for pages in widths(self.slots.pages):
            steps = self._steps_of(pages)
            if time.monotonic() < until and cuda:
                self._compile(steps)
            for warm in steps:
                if time.monotonic() < until:
                    warm(rehearse=False)
                    made += 1
        if cuda:
            torch.cuda.synchronize(self.pool.device)
        return made

    def _steps_of(self, pages: int) -> list[Callable[..., None]]:
        """What makes each step ready that sequences of `pages` pages need, the commonest first."""
        together = [1 << n for n in range(power_of_two(self.slots.count).bit_length())]
        chunks = [rows for rows in reversed(ROWS) if rows <= max(self.chunk, PAGE_TOKENS)]
        rest = [1 << n for n in range(1, _FEW.bit_length())]  # of a prompt, and drafts
        return [
            self._warm_logits,
            *(partial(self.graphs.warm, count, most=1, pages=pages) for count in together),
            *(partial(self.chunks.warm, rows, pages=pages) for rows in chunks),
            *(partial(self.graphs.warm, count, most=count, pages=pages) for count in rest),
        ]

    def _compile(self, steps: list[Callable[..., None]]) -> None:
        """Compile what the steps launch. What the first launches would leave for all later ones is forgotten."""
        experts = [both for layer in self.gpu.weights.layers for both in (layer.experts.routed, layer.experts.shared)]
        before = [set(one.found) for one in experts]
        with compiled_only(min(_COMPILERS, len(os.sched_getaffinity(0)))):
            for warm in steps:
                warm(rehearse=True)
        for one, known in zip(experts, before, strict=True):
            for key in set(one.found) - known:
                del one.found[key]

    @torch.inference_mode()
    def _warm_logits(self, *, rehearse: bool) -> None:
        shape = (1, self.model.config.hc_mult, self.model.config.hidden_size)
        self.gpu.logits(torch.zeros(shape, dtype=self.gpu.dtype, device=self.pool.device))

    def new_state(self) -> GpuState:
        """An empty sequence."""
        tails = empty_tails(self.pool.layout, self.pool.device)
        return GpuState(self.pool, tails, binding=self.binding, replay=self._replay)

    @torch.inference_mode()
    def step(
        self, ids: np.ndarray, state: SequenceState, *, controls: Controls | None = None, all_rows: bool = False,
        lent: bool = False,
    ) -> StepOutput:  # fmt: skip
        """As `Runner.step`."""
        if not _plain(controls) or len(ids) == 0:
            return super().step(ids, state, controls=controls, all_rows=all_rows)
        self.check_room(len(ids), state.length)
        mass = controls is not None and controls.mass
        if len(ids) > _FEW:
            streams, seen = self._chunk(ids, _own(state), mass=mass)
            logits = self.gpu.logits(streams if all_rows else streams[-1:])
            return StepOutput(logits, self._reports(seen, state.length), streams if lent else streams.clone())
        result = self._few([ids], [_own(state)], mass=mass)
        logits = result.logits if all_rows else result.logits[-1:]
        reports = self._reports(result.seen, state.length)
        if lent:
            return StepOutput(logits, reports, result.streams)
        return StepOutput(logits.clone(), reports, result.streams.clone())

    @torch.inference_mode()
    def step_many(self, ids: Sequence[np.ndarray], states: Sequence[SequenceState]) -> list[Tensor]:
        """The next 1 to 16 tokens of several sequences in one step -> logits [n, V] of each, as each alone would give
        them up to the rounding of sums. LimitError for more tokens, for more sequences than slots, beyond the context.
        """
        for some, state in zip(ids, states, strict=True):
            if not 1 <= len(some) <= _FEW:
                raise LimitError(f"{len(some)} tokens of a sequence are given to one step; it takes 1 to {_FEW}")
            self.check_room(len(some), state.length)
        result = self._few(list(ids), [_own(state) for state in states], mass=False)
        return list(result.logits.clone().split([len(some) for some in ids]))

    def turn(self, state: SequenceState) -> Stretch | None:
        """As `Runner.turn`."""
        return Turn(_own(state))

    @torch.inference_mode()
    def together(self, stretches: Sequence[Stretch], tokens: Sequence[int]) -> list[Row]:
        """As `Runner.together`, each row as its sequence alone would give it up to the rounding of sums; LimitError as
        for `step_many`."""
        if not stretches:
            return []
        states = [_own(stretch.state) for stretch in stretches]
        for state in states:
            self.check_room(1, state.length)
        logits = self._few([np.array([token]) for token in tokens], states, mass=False).logits.clone()
        value, best = logits.max(-1)
        told = torch.where(value.isnan(), -1, best).tolist()
        return [Row(logits[i : i + 1], token) for i, token in enumerate(told)]

    def _few(self, ids: list[np.ndarray], states: list[GpuState], *, mass: bool) -> StepResult:
        for some, state in zip(ids, states, strict=True):
            state.reserve(len(some))
        with _kept(state for some, state in zip(ids, states, strict=True) if len(some) > self.slots.spare):
            result = self._run_few(ids, states, mass=mass)
        for some, state in zip(ids, states, strict=True):
            state.advanced(np.asarray(some))
        return result

    def _run_few(self, ids: list[np.ndarray], states: list[GpuState], *, mass: bool) -> StepResult:
        parts = []
        for slot, some, state in zip(self.binding.bind(states), ids, states, strict=True):
            self.slots.writes(slot, state.length, len(some))
            parts.append(self._input(slot, some, state))
        most = power_of_two(max(len(some) for some in ids))
        return self.graphs.run(_together(parts), most=most, pages=max(len(s.pages) for s in states), mass=mass)

    def _input(self, slot: int, ids: np.ndarray, state: GpuState) -> StepInput:
        recent = self._recent(ids, state) if self._context else None
        return StepInput(ids, slot, np.arange(state.length, state.length + len(ids)), recent)

    def ahead(self, state: SequenceState) -> Ahead:
        """As `Runner.ahead`."""
        return Ahead(self, _own(state))

    def runs_next(self, state: GpuState, token: Tensor) -> StepResult | None:
        """Put the step under way that reads `token` int64 [1], which only the device knows yet, behind what the state
        holds. It may be taken over (`GpuState.advanced`) while `state.ahead` is the number of the newest step. None,
        and nothing is done, where the step would need a page, a slot, or room in the context."""
        length, pages = state.length, state.pages
        if state.slot is None or state.stale or state.listed != pages or length >= self.limit:
            return None
        page = length // PAGE_TOKENS
        if page >= len(pages) or not self.pool.allocator.writable(pages[page]):
            return None
        self.slots.writes(state.slot, length, 1)
        given = self._input(state.slot, np.zeros(1, dtype=np.int64), state)
        result = self.graphs.run(given, most=1, pages=len(pages), token=token)
        state.ahead = self.graphs.count
        return result

    def drafter(self) -> GpuDrafter:
        """As `Runner.drafter`; the stage's weights are taken when the first answer drafts."""
        if self._drafts is None:
            stage = GpuStage(self.gpu, take_stage(self.model, self.gpu.dtype))
            self._drafts = Drafts(stage, self.pool.layout, count=self.slots.count, device=self.pool.device)
        return GpuDrafter(self._drafts)

    def _recent(self, ids: np.ndarray, state: SequenceState) -> np.ndarray:
        """Each id and those before it, newest first, [T, n]; the pad where there are none."""
        n = self._context
        before = state.tokens[max(0, state.length - n + 1) : state.length]
        if len(ids) == 1:  # of many sequences a step: the general way takes four times as long
            row = [int(ids[0]), *before[::-1].tolist()]
            return np.array([row + [self._pad] * (n - len(row))])
        both = np.concatenate([np.full(n - 1 - len(before), self._pad), before, ids]).astype(np.int64)
        return np.lib.stride_tricks.sliding_window_view(both, n)[:, ::-1]

    def _read_parts(
        self, parts: list[np.ndarray], state: SequenceState, controls: Controls | None,
        after: Callable[[SequenceState], None] | None = None, workers: int | None = None,
    ) -> None:  # fmt: skip
        if not _plain(controls):
            super()._read_parts(parts, state, controls, after, workers)
            return
        for part in parts:
            self._chunk(part, _own(state), mass=False)
            if after is not None:
                after(state)

    @torch.inference_mode()
    def _chunk(self, ids: np.ndarray, state: GpuState, *, mass: bool) -> tuple[Tensor, tuple[Seen, ...]]:
        """Read ids [T] -> streams [T, M, D], which the next chunk overwrites."""
        count, first = len(ids), state.length
        state.reserve(count)
        [slot] = self.binding.bind([state])
        given, pages = self._input(slot, np.asarray(ids), state), self.pool.layout.pages(first + count)
        self.graphs.passed()  # graphs share their memory, so a step under way for another sequence is lost
        try:
            made = self.chunks.run(given, slot=slot, first=first, pages=pages, mass=mass)
        except BaseException:
            self.chunks.undo()
            raise
        self.slots.writes(slot, first, count, chunk=True)
        state.advanced(given.tokens)
        return made

    def _reports(self, seen: Sequence[Seen], length: int) -> tuple[BlockReport, ...]:
        if not seen:
            return self.silent
        masses: dict[int, tuple[Mass, ...]] = {}
        ratios = self.model.config.layer_ratios
        for layer, mass, picks in seen:
            values = mass.unsqueeze(0).clone()
            if picks is None:
                values = values[..., : length // ratios[layer]]
            masses[layer] = (Mass(ratios[layer], values, None if picks is None else picks.unsqueeze(0).clone()),)
        return tuple(BlockReport(None, masses.get(layer, ()), None) for layer in range(len(ratios)))


@contextlib.contextmanager
def _kept(states: Iterable[GpuState]) -> Iterator[None]:
    """Rows that a step of many tokens writes over in their slots are held beside them, and go back if it fails."""
    held = [(state, state.tails) for state in states]
    try:
        yield
    except BaseException:
        for state, tails in held:
            state.tails = tails
        raise


def _together(parts: list[StepInput]) -> StepInput:
    """The inputs of several sequences, one after the other."""
    if len(parts) == 1:
        return parts[0]
    recent = [part.recent for part in parts if part.recent is not None]
    return StepInput(
        tokens=np.concatenate([part.tokens for part in parts]),
        slots=np.concatenate([np.broadcast_to(part.slots, len(part.tokens)) for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
        recent=np.concatenate(recent) if recent else None,
    )


def _plain(controls: Controls | None) -> bool:
    """Whether the kernels do what is asked for."""
    if controls is None:
        return True
    chosen = controls.index_topk is None and controls.picks is Picks.INDEX and controls.hca
    return chosen and not controls.index_loss and not controls.load and controls.hca_offset is None


def _own(state: SequenceState) -> GpuState:
    assert isinstance(state, GpuState), "the state was made by another runner"
    return state
