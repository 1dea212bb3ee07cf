"""Running our model in tests without the engine: whole sequences, steps on a state, and what the indexers chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import empty_tails
from octavo.cache.view import View
from octavo.kernels.selection import Picked
from octavo.model.indexer import Indexer
from octavo.model.transformer import Transformer

Picks = dict[int, Tensor]


@torch.no_grad()
def whole(model: Transformer, *sequences: Tensor, first_position: int | None = None) -> tuple[Tensor, ...]:
    """Logits [T, V] of each sequence, all packed into one pass without a past."""
    tokens = torch.cat(sequences)
    positions = None if first_position is None else first_position + torch.arange(len(tokens))
    cumulative = list(accumulate((len(s) for s in sequences), initial=0))
    streams = model(tokens, View.packed(cumulative, positions=positions)).streams
    return model.logits(streams).split([len(s) for s in sequences])


def new_pool(model: Transformer, *, margin: int = 8) -> PagePool:
    """An FP32 cache for a few thousand tokens."""
    return PagePool(CacheLayout(model.config, margin=margin), capacity_tokens=2048)


def new_state(model: Transformer, pool: PagePool) -> SequenceState:
    """An empty sequence that can read again what a long rollback has lost."""

    def replay(ids: np.ndarray, state: SequenceState) -> None:
        step(model, torch.from_numpy(np.asarray(ids, dtype=np.int64)), state)

    return SequenceState(pool, empty_tails(pool.layout), replay=replay)


@torch.no_grad()
def step(model: Transformer, ids: Tensor, *states: SequenceState) -> Tensor:
    """Logits of `ids` [T], read by one state, or split evenly over several in one pass."""
    view = View.step(states, [len(ids) // len(states)] * len(states))
    logits = model.logits(model(ids, view).streams)
    view.commit(ids)
    return logits


def in_chunks(model: Transformer, ids: Tensor, sizes: Sequence[int], state: SequenceState) -> Tensor:
    """Logits [T, V] of `ids` read in chunks of the given sizes, repeated until the end."""
    parts, at, turn = [], 0, 0
    while at < len(ids):
        size = sizes[turn % len(sizes)]
        parts.append(step(model, ids[at : at + size], state))
        at, turn = at + size, turn + 1
    return torch.cat(parts)


@contextmanager
def recorded_picks() -> Iterator[Picks]:
    """Collects layer -> chosen entries [T, k] of one sequence, over all passes made inside.

    A query whose visible entries were all taken without a choice has them listed like any other.
    """
    parts: dict[int, list[Tensor]] = {}
    picks: Picks = {}
    select = Indexer.select

    def spy(self: Indexer, queries: Any, keys: Any, group: Any, controls: Any) -> Any:
        selection = select(self, queries, keys, group, controls)
        if isinstance(selection, Picked):
            chosen = selection.index[0]
        else:
            entry = torch.arange(max(keys.length, 1)).unsqueeze(0)
            closed = (torch.arange(group.first + 1, group.first + group.length + 1) // selection.ratio).unsqueeze(1)
            chosen = torch.where(entry < closed, entry, -1)
        parts.setdefault(self.compressor.layer, []).append(chosen)
        return selection

    with mock.patch.object(Indexer, "select", spy):
        yield picks
    for layer, found in parts.items():
        width = max(part.shape[1] for part in found)
        padded = [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=-1) for part in found]
        picks[layer] = torch.cat(padded)


def same_picks(a: Picks, b: Picks) -> Tensor:
    """[T]: whether all layers chose the same set of entries for a query."""
    assert a.keys() == b.keys()
    rows = [[_as_set(x) == _as_set(y) for x, y in zip(a[layer], b[layer], strict=True)] for layer in a]
    return torch.tensor(rows).all(dim=0)


def _as_set(row: Tensor) -> set[int]:
    return {int(entry) for entry in row.tolist() if entry >= 0}
