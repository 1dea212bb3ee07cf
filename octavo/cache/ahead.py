"""Steps of one sequence that run at the same time, each a layer or more behind the one before it.

Covers: `RowsAhead`, the past of a step whose predecessor has not ended: it waits for the predecessor at every layer and
takes over the rows that it left there. Does not cover: threads (`octavo.engine.pipeline`).

What a layer reads of the past (window rows, raw rows, entries) its predecessor has written when it comes to the next
layer, so steps can follow each other through the model like carriages. Results are those of one step after the other.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

from octavo.cache.state import SequenceState
from octavo.cache.tails import LayerTail
from octavo.cache.view import StateRows

_DONE = 1 << 30


class Abandoned(Exception):
    """The predecessor of a step failed or was stopped; the step's own result would be worthless."""


class RowsAhead(StateRows):
    """The tokens first .. first + count - 1 of a sequence; `before` is the step of the tokens before them, None where
    those are committed. `ids` are at least the last few hundred token ids up to the step's end."""

    def __init__(
        self, state: SequenceState, count: int, *, first: int, before: RowsAhead | None, ids: np.ndarray
    ) -> None:
        super().__init__(state, count, first=first)
        self._before, self._recent = before, ids
        self._layer, self._stopped = -1, False
        self._change = threading.Condition()

    def finish(self) -> None:
        """All layers are done."""
        self._reach(_DONE)

    def stop(self) -> None:
        """Make this step, and whoever waits for it, raise Abandoned at the next layer."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def tail(self, layer: int) -> LayerTail:
        if layer > self._layer:
            self._reach(layer)
        before = self._before
        if before is None:
            return super().tail(layer)
        before.wait_beyond(layer)
        return before.made(layer)

    def ids_before(self, count: int) -> Tensor:
        end = len(self._recent) - self._count
        past = self._recent[max(0, end - min(count, self._first)) : end].astype(np.int64)
        return torch.from_numpy(past).to(self._state.pool.device).unsqueeze(0)

    def commit(self, ids: np.ndarray) -> None:
        assert self._state.length == self._first, "steps are committed in order"
        self._before = None  # what came before is in the state now
        super().commit(ids)

    def wait_beyond(self, layer: int) -> None:
        """Return when this step has left `layer`; Abandoned when it never will."""
        with self._change:
            self._change.wait_for(lambda: self._layer > layer or self._stopped)
            if self._layer <= layer:
                raise Abandoned

    def _reach(self, layer: int) -> None:
        with self._change:
            if self._stopped:
                raise Abandoned
            self._layer = layer
            self._change.notify_all()
