"""One token of each of several sequences, from ids to logits, in one compiled call: the structure of together.h.

Contract: `Way(calls)` are a sequence's layers, each a `Step` of one token with its streams, `out`, `room` and
`table_rows` left out, mass and picks not asked for; every call moves their addresses a row on, so rows of the next
tokens must have room behind them. `Head` holds the weights that all sequences share: FP32, contiguous; `tables` by
layer are experts [V, A] int64 by token id where a layer looks them up. `run(ways, tokens, head) -> (logits [R, V] FP32,
R ids)`, R at least 1: the likeliest id of each row, of equals the lowest, -1 where a logit is NaN. Token ids must be in
the vocabulary.

A sequence gets the bits that it gets in a call of its own, and those of `whole.Layers` and `step.head`. The body is
C++; without it sequences take their steps one by one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.step.whole import Step

_INT, _FLOAT, _AT = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p


class _Together(ctypes.Structure):
    _fields_ = [
        *[(name, _AT) for name in ("ways", "tokens", "embedding", "fn", "base", "scale", "gain", "head", "tables")],
        *[(name, _AT) for name in ("logits", "best")],
        *[(name, _INT) for name in ("count", "layers", "vocabulary", "threads")],
        ("eps", _FLOAT),
        ("norm_eps", _FLOAT),
    ]


class Way:
    """A sequence's layers, as the call finds them."""

    def __init__(self, calls: Sequence[Step]) -> None:
        self.calls = tuple(calls)  # held: the addresses are theirs
        self._at = (_AT * len(self.calls))(*[ctypes.addressof(call) for call in self.calls])
        self.address = ctypes.addressof(self._at)


class Head:
    """What lies before and behind the layers: `embedding` [V, D], what merges the streams, `weight` [V, D], tables."""

    def __init__(
        self, embedding: Tensor, merge: Sequence[Tensor], weight: Tensor, tables: Sequence[Tensor | None], *,
        eps: float, norm_eps: float,
    ) -> None:  # fmt: skip
        """`merge`: the weights of `hyper.finish` in their order."""
        self.held = embedding, tuple(merge), weight, tuple(tables)
        self.rules, self.vocabulary, self.layers = (eps, norm_eps), len(weight), len(tables)
        self._tables = (_AT * len(tables))(*[None if table is None else table.data_ptr() for table in tables])
        self.addresses = embedding.data_ptr(), *[part.data_ptr() for part in merge], weight.data_ptr()
        self.tables_address = ctypes.addressof(self._tables)


def run(ways: Sequence[Way], tokens: Sequence[int], head: Head) -> tuple[Tensor, list[int]]:
    """See the module docstring for the contract."""
    count = len(ways)
    # numpy's memory: torch would let another thread's Python run here, and wait until that lets go
    logits = torch.from_numpy(np.empty((count, head.vocabulary), dtype=np.float32))
    ids, best = (ctypes.c_int64 * count)(*tokens), (ctypes.c_int64 * count)()
    at = (_AT * count)(*[way.address for way in ways])
    call = _Together(
        ctypes.addressof(at), ctypes.addressof(ids), *head.addresses, head.tables_address, logits.data_ptr(),
        ctypes.addressof(best), count, head.layers, head.vocabulary, torch.get_num_threads(), *head.rules,
    )  # fmt: skip
    native.called().octavo_step_together(ctypes.addressof(call))
    return logits, list(best)
