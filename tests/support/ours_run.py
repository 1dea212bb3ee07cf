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
from octavo.config.model import CSA_RATIO
from octavo.kernels.selection import Picked
from octavo.kernels.step.whole import Layers, Sight
from octavo.model.indexer import Indexer
from octavo.model.step import Prepared, run_layers
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
        chosen = selection.index[0] if isinstance(selection, Picked) else _all_of(group.first, group.length)
        parts.setdefault(self.compressor.layer, []).append(chosen)
        return selection

    def spy_layers(layers: Layers, prepared: Sequence[Prepared]) -> None:
        asked = [one for one in prepared if one.block.ratio == CSA_RATIO]
        chosen = [torch.empty(one.call.tokens, one.call.picks, dtype=torch.int64) for one in asked]
        before = [one.call.picked for one in asked]
        for one, found in zip(asked, chosen, strict=True):
            if one.call.sight == Sight.BEST:
                one.call.picked = found.data_ptr()
        run_layers(layers, prepared)
        for one, found, held in zip(asked, chosen, before, strict=True):
            listed = found if one.call.sight == Sight.BEST else _all_of(one.call.first, one.call.tokens)
            parts.setdefault(one.block.attn.layer, []).append(listed)
            one.call.picked = held

    with (
        mock.patch.object(Indexer, "select", spy),
        mock.patch("octavo.model.step.run_layers", spy_layers),
        mock.patch("octavo.model.stack.run_layers", spy_layers),
    ):
        yield picks
    for layer, found in parts.items():
        width = max(part.shape[1] for part in found)
        padded = [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=-1) for part in found]
        picks[layer] = torch.cat(padded)


def _all_of(first: int, count: int) -> Tensor:
    """All entries that each of `count` queries from token `first` on sees, -1 behind them."""
    closed = (torch.arange(first + 1, first + count + 1) // CSA_RATIO).unsqueeze(1)
    entry = torch.arange(max(int(closed[-1]), 1)).unsqueeze(0)
    return torch.where(entry < closed, entry, -1)


def same_picks(a: Picks, b: Picks) -> Tensor:
    """[T]: whether all layers chose the same set of entries for a query."""
    assert a.keys() == b.keys()
    rows = [[_as_set(x) == _as_set(y) for x, y in zip(a[layer], b[layer], strict=True)] for layer in a]
    return torch.tensor(rows).all(dim=0)


def _as_set(row: Tensor) -> set[int]:
    return {int(entry) for entry in row.tolist() if entry >= 0}
