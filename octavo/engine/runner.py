"""Runs the model over a sequence in the cache: one step, or a long text in chunks.

Covers: chunking, which rows become logits, and the replay that an exact rollback needs. Does not cover: choosing tokens
(`sampler`, `generation`), drafts (`drafter`), texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.cache.view import Controls, View
from octavo.config.errors import LimitError, UsageError
from octavo.config.model import DraftKind
from octavo.engine.drafter import Drafter, Proposer
from octavo.engine.fingerprint import model_fingerprint
from octavo.engine.pipeline import read_in_pipeline
from octavo.engine.request import DEFAULT_DRAFT
from octavo.model.block import BlockReport
from octavo.model.stretch import Row, Several, Stretch
from octavo.model.transformer import Transformer

CHUNK = 1024
"""Tokens read at a time. In the pipeline on two cores a token takes the least processor time at 1024 (`s` at 8K): a
tenth more at 512, a twentieth more at 2048. Working memory grows with it, once for each chunk under way."""


_TOGETHER = 16  # sequences of a step, at most: more wait longer for each other than weights cost


class StepOutput(NamedTuple):
    """Logits of the rows that were asked for, [R, V], every block's report, and the streams [T, M, D] of all rows."""

    logits: Tensor
    reports: tuple[BlockReport, ...]
    streams: Tensor


class StepAhead(Protocol):
    """Greedy tokens of one sequence, its next step under way while the host reads the token that it begins with."""

    def choose(self, logits: Tensor, *, go_on: bool) -> int:
        """The likeliest token (of equals the lowest id) of logits [1, V], which are not to be read afterwards. With
        `go_on` the step behind it is under way when this returns, where that is possible. CheckpointError for NaN."""
        ...

    def take(self, token: int) -> StepOutput | None:
        """What the step under way gave, and the state advanced by `token`; None, and the state as it was, where none is
        under way, it read another token, or something came between."""
        ...


class Runner:
    """One model and the pool its sequences live in.

    Everything runs in inference mode. A state changes only when a step is complete, so an interrupted reading leaves it
    valid at the end of the last whole chunk.
    """

    def __init__(self, model: Transformer, pool: PagePool, *, chunk: int = CHUNK, name: str = "this model") -> None:
        self.model, self.pool, self.chunk, self.name = model, pool, chunk, name
        self.limit = model.config.max_position_embeddings
        self._several = Several(model)

    @property
    def path(self) -> str | None:
        """What runs the model, in words, where model and pool do not tell it."""
        return None

    @property
    def failure(self) -> str | None:
        """Why nothing can be run any more, None else."""
        return None

    def fingerprint(self) -> str:
        """See `model_fingerprint`."""
        return model_fingerprint(self.model)

    def close(self) -> None:
        """End what runs beside this process, where something does. Twice is fine."""

    @property
    def is_shared(self) -> bool:
        """Whether several threads may run it at the same time."""
        return self.pool.device.type == "cpu"

    def seat(self, sequences: int) -> int:
        """Be ready for so many sequences that are answered at a time; how many of them a step takes at most."""
        return min(sequences, _TOGETHER)

    def warm(self, seconds: float) -> int:
        """Make the steps that are met most often ready before they are met, for about `seconds` at most; how many."""
        return 0

    def new_state(self) -> SequenceState:
        """An empty sequence; it can roll back any distance, since it reads again what it no longer holds."""
        return SequenceState(self.pool, empty_tails(self.pool.layout, self.pool.device), replay=self._replay)

    @torch.inference_mode()
    def step(
        self, ids: np.ndarray, state: SequenceState, *, controls: Controls | None = None, all_rows: bool = False,
        lent: bool = False,
    ) -> StepOutput:  # fmt: skip
        """Read ids [T] in one pass and advance the state; logits of the last row [1, V], or of all rows [T, V].

        `lent`: logits and streams are read before the runner's next step, which may write over them. Raises LimitError,
        and leaves the state alone, when the sequence would pass the model's context.
        """
        self.check_room(len(ids), state.length)
        tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(self.pool.device)
        view = View.step([state], [len(ids)], controls=controls)
        output = self.model(tokens, view)
        logits = self.model.logits(output.streams if all_rows else output.streams[-1:])
        view.commit(tokens)
        return StepOutput(logits, output.reports, output.streams)

    def read(
        self,
        ids: np.ndarray,
        state: SequenceState,
        *,
        controls: Controls | None = None,
        after: Callable[[SequenceState], None] | None = None,
        workers: int | None = None,
    ) -> None:
        """Read ids [T] in chunks that end at multiples of the chunk size; `after` gets the state after each. `workers`:
        chunks that run at the same time on a CPU, None: one for each of torch's threads."""
        self.check_room(len(ids), state.length)
        self._read_parts(self._chunks(ids, state.length), state, controls, after, workers)

    def _read_parts(
        self, parts: list[np.ndarray], state: SequenceState, controls: Controls | None,
        after: Callable[[SequenceState], None] | None = None, workers: int | None = None,
    ) -> None:
        if self.pool.device.type == "cpu" and parts:
            read_in_pipeline(self.model, state, parts, controls=controls, after=after, workers=workers)
        else:
            self._read_in_order(parts, state, controls, after)

    def _read_in_order(
        self, parts: list[np.ndarray], state: SequenceState, controls: Controls | None,
        after: Callable[[SequenceState], None] | None,
    ) -> None:  # fmt: skip
        for part in parts:
            self._advance(part, state, controls)
            if after is not None:
                after(state)

    @torch.inference_mode()
    def _advance(self, ids: np.ndarray, state: SequenceState, controls: Controls | None) -> None:
        """One chunk without any logits."""
        tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(self.pool.device)
        view = View.step([state], [len(ids)], controls=controls)
        self.model(tokens, view)
        view.commit(tokens)

    def read_last(self, ids: np.ndarray, state: SequenceState, *, controls: Controls | None = None) -> StepOutput:
        """Read ids [T] (T >= 1) in chunks; logits [1, V] and reports of the pass that held the last row."""
        *before, last = self._chunks(ids, state.length)
        self.check_room(len(ids), state.length)
        self._read_parts(before, state, None if controls is None else _quiet(controls))
        return self.step(last, state, controls=controls)

    def all_logits(self, ids: np.ndarray, state: SequenceState, *, chunk: int | None = None) -> Tensor:
        """Logits [T, V] of every row, read in one pass or in chunks of `chunk` tokens counted from here."""
        size = len(ids) if chunk is None else chunk
        parts = [self.step(ids[at : at + size], state, all_rows=True).logits for at in range(0, len(ids), size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.inference_mode()
    def whole_logits(self, ids: np.ndarray) -> Tensor:
        """Logits [T, V] of a sequence read in one pass without any state."""
        tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(self.pool.device)
        view = View.packed([0, len(ids)], device=self.pool.device)
        return self.model.logits(self.model(tokens, view).streams)

    def ahead(self, state: SequenceState) -> StepAhead | None:
        """Greedy decoding of `state` a step ahead of the host; None where that gains nothing, as here."""
        return None

    def stretch(self, state: SequenceState, *, most: int, before: Stretch | None = None) -> Stretch | None:
        """The next steps of one token of `state`, at most `most`, as those that `together` makes; None where `step`
        must make the next one. `before`: the stretch of this state that is over."""
        if self.pool.device.type != "cpu":
            return None
        return self._several.begin(state, most=min(most, self.limit - state.length), before=before)

    def turn(self, state: SequenceState) -> Stretch | None:
        """The next step of `state` as one that `together` makes, where it is better made so with those of others and
        by `step` or `ahead` alone; None, as here, where what `stretch` gives serves for both."""
        return None

    def together(self, stretches: Sequence[Stretch], tokens: Sequence[int]) -> list[Row]:
        """One step of each stretch, which reads its token, in one call: each row has the bits that `step` gives."""
        return self._several.run(stretches, tokens)

    def drafter(self) -> Proposer:
        """What proposes tokens for one answer; the model must have MTP blocks."""
        return Drafter(self.model, self.pool.layout, self.pool.device)

    def draft_count(self, asked: int | None) -> int:
        """Tokens to draft at a time: `asked`, or what is usual for this model (None): 0 without an MTP block.

        Raises UsageError when drafts are asked for and the model has no MTP block.
        """
        kind = self.model.config.mtp_kind
        if kind is DraftKind.MTP:
            return DEFAULT_DRAFT if asked is None else asked
        if asked:
            why = "its draft stages are DSpark, not MTP" if kind is DraftKind.DSPARK else "it has no MTP block"
            raise UsageError(f"draft is {asked}: {self.name} cannot draft tokens, {why}; leave it out or give 0")
        return 0

    def check_room(self, count: int, before: int, *, what: str | None = None) -> None:
        """Raise LimitError, naming `what` they are, unless `count` tokens after `before` fit into the model's context.
        """
        if before + count > self.limit:
            named = "" if what is None else f"{what}: "
            raise LimitError(
                f"{named}{count:,} tokens after {before:,} make {before + count:,}; "
                f"the context of this model ends at {self.limit:,}"
            )

    def _chunks(self, ids: np.ndarray, first: int) -> list[np.ndarray]:
        """Cut at absolute multiples of the chunk size, so that a resumed reading repeats the same passes bit by bit."""
        ends = range((first // self.chunk + 1) * self.chunk - first, len(ids), self.chunk)
        return np.split(np.asarray(ids), list(ends)) if len(ids) else []

    def _replay(self, ids: np.ndarray, state: SequenceState) -> None:
        self.read(ids, state)


def _quiet(controls: Controls) -> Controls:
    """The same choices, nothing reported."""
    return Controls(index_topk=controls.index_topk, picks=controls.picks, hca=controls.hca)
