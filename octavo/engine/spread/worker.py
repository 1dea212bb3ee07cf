"""The process of a rank beside the first: it does what the first one does, on its own share.

Covers: `Mirror`, the states and the runner that follow orders, and the process around it.

    python -m octavo.engine.spread.worker DESCRIPTOR

DESCRIPTOR is that of an open pipe; a `Setup` comes first. The process ends by itself when the other end is gone, and
says why when it cannot go on. Does not cover: the first rank (`crew`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from octavo.cache.pool import PagePool, StoreKey
from octavo.cache.state import SequenceState
from octavo.engine.fingerprint import model_fingerprint
from octavo.engine.spread.layers import SpreadTransformer
from octavo.engine.spread.orders import Line, Order, Said, Setup, line_of
from octavo.engine.spread.rank import SequentialRunner, build, digest, weight_bytes
from octavo.kernels import dispatch
from octavo.kernels.dispatch import Body


class Arriving:
    """Rows of adopted pages, by store; they come before they are first read."""

    def __init__(self) -> None:
        self.rows: dict[StoreKey, np.ndarray] = {}

    def load(self, key: StoreKey) -> Tensor:
        """Given once, for the pool to keep."""
        return torch.from_numpy(self.rows.pop(key))


class Mirror:
    """States by number, and the runner that they belong to."""

    def __init__(self, model: SpreadTransformer, pool: PagePool, *, chunk: int | None, name: str) -> None:
        given: dict[str, Any] = {} if chunk is None else {"chunk": chunk}
        self._runner = SequentialRunner(model, pool, name=name, **given)
        self._model = model
        self._states: dict[int, SequenceState] = {}
        self._arriving: weakref.WeakValueDictionary[int, Arriving] = weakref.WeakValueDictionary()
        self._does: dict[Order, Callable[..., Any]] = {
            Order.NEW: self._new,
            Order.FORK: self._fork,
            Order.ROLLBACK: lambda state, n: self._states[state].rollback(n),
            Order.CLOSE: lambda state: self._states.pop(state).close(),
            Order.ADOPT: self._adopt,
            Order.ROWS: self._rows,
            Order.SNAPSHOT: lambda state, tails, ids: self._states[state].load_snapshot(tails, ids),
            Order.STEP: self._step,
            Order.ADVANCE: self._advance,
            Order.WHOLE: self._whole,
            Order.FINGERPRINT: lambda: model_fingerprint(self._model),
            Order.DIGEST: lambda state: digest(self._states[state]),
        }

    def do(self, order: Order, *args: Any) -> Any:
        """Follow an order; what it gives."""
        return self._does[order](*args)

    def _new(self, state: int) -> None:
        self._states[state] = self._runner.new_state()

    def _fork(self, state: int, twin: int) -> None:
        self._states[twin] = self._states[state].fork()

    def _adopt(self, state: int, number: int, pages: int) -> None:
        arriving = self._arriving.get(number) or Arriving()
        self._arriving[number] = arriving
        self._states[state].adopt_pages(arriving.load, pages)

    def _rows(self, number: int, rows: dict[StoreKey, np.ndarray]) -> None:
        arriving = self._arriving.get(number)
        if arriving is not None:  # None: its states are closed
            arriving.rows = rows

    def _step(self, state: int, ids: np.ndarray, controls: Any, all_rows: bool, body: Body) -> None:
        with dispatch.use(body):
            self._runner.step(ids, self._states[state], controls=controls, all_rows=all_rows)

    def _advance(self, state: int, ids: np.ndarray, controls: Any, body: Body) -> None:
        with dispatch.use(body):
            self._runner._advance(ids, self._states[state], controls)

    def _whole(self, ids: np.ndarray, body: Body) -> None:
        with dispatch.use(body):
            self._runner.whole_logits(ids)


def serve(line: Line) -> None:
    """Build what the setup says, follow orders until STOP. EOFError where the other end is gone."""
    word, setup = line.receive()
    assert word is Order.SETUP, word
    assert isinstance(setup, Setup), setup
    if setup.device == "cpu":
        torch.set_num_threads(setup.threads)
    model, pool = build(setup)
    line.send(Said.READY, weight_bytes(model))
    mirror, model.team.open = Mirror(model, pool, chunk=setup.chunk, name=setup.name), True
    while True:
        order, *args = line.receive()
        if order is Order.STOP:
            model.team.close()
            return
        given = mirror.do(order, *args)
        if order is Order.DIGEST:
            line.send(Said.DIGEST, given)


def main(descriptor: int) -> int:
    """Exit code: 0 when told to stop or left alone, 1 for a failure that was told."""
    line = Line(cast(Connection, Connection(descriptor)))
    try:
        serve(line)
    except EOFError:
        return 0
    except Exception as error:
        with contextlib.suppress(OSError):
            line.send(Said.FAILED, line_of(error))
        return 1
    return 0


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # threads of a group whose other side is gone may never end
