"""The runner of the first rank: what the engine asks for, done by all ranks.

Covers: `SpreadRunner`, and `make_spread`, the one way to it. Does not cover: the engine, which sees a `Runner` like any
other, and the other ranks (`worker`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import RowFormat
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.engine.fingerprint import model_fingerprint
from octavo.engine.runner import CHUNK, StepOutput
from octavo.engine.spread.crew import Crew
from octavo.engine.spread.layers import SpreadTransformer
from octavo.engine.spread.orders import Order, Setup
from octavo.engine.spread.rank import SequentialRunner, build, weight_bytes
from octavo.engine.spread.shares import check_ranks, without_drafts
from octavo.engine.spread.state import SpreadState
from octavo.engine.spread.team import Team
from octavo.kernels import dispatch

EXCHANGE_SECONDS = 300.0  # a rank that hears nothing from another for so long takes it for lost


class SpreadRunner(SequentialRunner):
    """As `Runner`, over `crew`; every method may raise WorkerError, and does once a worker has ended."""

    def __init__(self, model: SpreadTransformer, pool: PagePool, crew: Crew, *, chunk: int, name: str) -> None:
        super().__init__(model, pool, chunk=chunk, name=name)
        self.crew = crew

    def new_state(self) -> SequenceState:
        """As `Runner.new_state`."""
        self.crew.check()
        tails = empty_tails(self.pool.layout, self.pool.device)
        return SpreadState(self.pool, tails, self.crew, replay=self._replay)

    def step(
        self, ids: np.ndarray, state: SequenceState, *, controls: Controls | None = None, all_rows: bool = False,
        lent: bool = False,
    ) -> StepOutput:  # fmt: skip
        """As `Runner.step`; nothing is lent."""
        self.check_room(len(ids), state.length)
        own, mirrored = super().step, _mirrored(state)
        return self.crew.run(
            lambda: own(ids, state, controls=controls, all_rows=all_rows),
            Order.STEP, mirrored.number, ids, controls, all_rows, dispatch.body(), before=_room(mirrored, len(ids)),
        )  # fmt: skip

    def _advance(self, ids: np.ndarray, state: SequenceState, controls: Controls | None) -> None:
        own, mirrored = super()._advance, _mirrored(state)
        self.crew.run(
            lambda: own(ids, state, controls),
            Order.ADVANCE, mirrored.number, ids, controls, dispatch.body(), before=_room(mirrored, len(ids)),
        )  # fmt: skip

    def whole_logits(self, ids: np.ndarray) -> Tensor:
        """As `Runner.whole_logits`."""
        own = super().whole_logits
        return self.crew.run(lambda: own(ids), Order.WHOLE, ids, dispatch.body())

    @property
    def path(self) -> str:
        """What runs the model, in words."""
        count, team = self.crew.count, self.crew.team
        carried = "gloo" if team is None else team.backend
        return (
            f"plain torch operations over {count} processes ({carried}), each with its own heads and experts; compiled "
            "steps, fused kernels and drafts are off, since layers are summed between processes"
        )

    @property
    def failure(self) -> str | None:
        """As `Runner.failure`."""
        return self.crew.failure

    def close(self) -> None:
        """As `Runner.close`."""
        self.crew.close()

    def fingerprint(self) -> str:
        """As `model_fingerprint`: that of the whole model."""
        return self.crew.run(lambda: model_fingerprint(self.model), Order.FINGERPRINT)

    def draft_count(self, asked: int | None) -> int:
        """0. Raises UsageError when drafts are asked for."""
        if asked:
            raise UsageError(
                f"draft is {asked}: a model over {self.crew.count} workers drafts no tokens; leave it out or give 0"
            )
        return 0

    def check_room(self, count: int, before: int, *, what: str | None = None) -> None:
        """As `Runner.check_room`."""
        self.crew.check()
        super().check_room(count, before, what=what)


def check_workers(workers: int | None, *, weights: str | None, offloaded: bool, device: str) -> int:
    """How many processes share the weights; refuse, before anything is loaded, what that does not go with."""
    if workers is None:
        return 1
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers is {workers!r}; it must be an integer from 1")
    if workers == 1:
        return 1
    if weights is not None:
        raise UsageError(f"workers need weights as they are stored; workers is {workers}, weights is {weights!r}")
    if offloaded:
        raise UsageError(f"workers hold their weights in memory; workers is {workers}, and weights are offloaded")
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device is {device!r}; with workers it must be cpu, or cuda for the first {workers} GPUs")
    if device == "cuda" and torch.cuda.device_count() < workers:
        raise UsageError(f"workers is {workers}; there are {torch.cuda.device_count()} GPUs, and each needs one")
    return workers


def setup_of(
    folder: Path, config: ModelConfig, dtype: str, workers: int, *, device: str, main: RowFormat, index: RowFormat,
    capacity_tokens: int, chunk: int | None, seconds: float = EXCHANGE_SECONDS,
) -> Setup:  # fmt: skip
    """How `workers` ranks make a model, checked. Each computes on its part of this process's threads."""
    config = without_drafts(config)
    check_ranks(config, workers)
    return Setup(
        folder=folder, config=config, dtype=dtype, device=device, main=main, index=index,
        capacity_tokens=capacity_tokens, chunk=chunk, name=folder.name, store=folder, rank=0, count=workers,
        seconds=seconds, threads=max(1, torch.get_num_threads() // workers),
    )  # fmt: skip


def make_spread(setup: Setup) -> SpreadRunner:
    """Start the workers, load every rank's share, and run over them; closed with the runner's crew, at the latest when
    the program ends. Raises CheckpointError, UsageError, WorkerError."""

    def own(setup: Setup) -> tuple[tuple[SpreadTransformer, PagePool], Team, int]:
        model, pool = build(setup)
        return (model, pool), model.team, weight_bytes(model)

    crew = Crew(setup)
    try:
        model, pool = crew.begin(own)
    except BaseException:
        crew.close()
        raise
    runner = SpreadRunner(model, pool, crew, chunk=CHUNK if setup.chunk is None else setup.chunk, name=setup.name)
    weakref.finalize(runner, crew.close)
    return runner


def _mirrored(state: SequenceState) -> SpreadState:
    if not isinstance(state, SpreadState):
        raise UsageError("the state belongs to another model")
    return state


def _room(state: SpreadState, count: int) -> Callable[[], Any]:
    """What is done before others hear of a step: what they lack is handed on, and there are pages here."""

    def make() -> None:
        state.hand_on()
        state.reserve(count)

    return make
