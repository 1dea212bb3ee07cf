"""What a step hands to the model beside the tokens.

Covers: `View` (positions, groups of sequences, controls), the two sources of past rows (`FreshRows` for whole sequences
without a past, `StateRows` for a sequence in the cache), and the commit. Prefill, chunk, decode and training differ in
this value only. Does not cover: scheduling, storage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from octavo.cache import codec
from octavo.cache.documents import Documents
from octavo.cache.layout import CacheLayout
from octavo.cache.places import Places
from octavo.cache.pool import PagedRows
from octavo.cache.state import SequenceState
from octavo.cache.tails import LayerTail, raw_start
from octavo.kernels.rows import DenseRows, Rows

Made = TypeVar("Made")
# Experts [T, A] int64 to be used as they are, or the router that chooses them: matrix [X, D], selection bias [X].
Routed = Tensor | tuple[Tensor, Tensor]


class Picks(StrEnum):
    """How CSA entries are chosen: by the indexer, all of them (dense stage of training), or at random (a control)."""

    INDEX = "index"
    ALL = "all"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Switches of one step: entries picked per query (None: the model's own), how, HCA on or off, what to report.

    index_every: the index loss is taken at every n-th query (an odd n meets every place within an entry's tokens).
    load: tokens per expert and the balance loss are reported. hca_offset: FP32, one number for all sequences or one for
    each of a group, added to the logits of HCA entries: log n makes each weigh as n, as in a context n times as long.
    routing: experts by layer, in place of the choice of the layer's own router, which still weighs them.
    """

    index_topk: int | None = None
    picks: Picks = Picks.INDEX
    hca: bool = True
    mass: bool = False
    index_loss: bool = False
    index_every: int = 1
    load: bool = False
    hca_offset: Tensor | None = None
    routing: Mapping[int, Routed] | None = None

    def routed(self, layer: int) -> Routed | None:
        """What chooses the experts of `layer`; None: its own router."""
        return None if self.routing is None else self.routing.get(layer)


class PastRows(Protocol):
    """Where a group's earlier rows come from and where its new ones go."""

    def window(self, layer: int, rows: Tensor) -> Tensor: ...

    def raw(self, layer: int, kind: str, rows: Tensor, *, since: int | None) -> Tensor | None:
        """Take over new raw rows [B, S, 2w]; all rows of the tokens from number `since` on, None for None."""
        ...

    def entries(self, layer: int, kind: str, first: int, values: Tensor) -> Rows: ...

    def entry_positions(self, first: int, stop: int, ratio: int) -> Tensor: ...

    def conv(self, layer: int, rows: Tensor) -> Tensor: ...

    def ids_before(self, count: int) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Group:
    """`rows` sequences of `length` new tokens each, at packed tokens start .. start + rows * length - 1; their first
    new token has the number `first` in its sequence. `documents`: those that each sequence holds, if it is no single
    one; they have no past."""

    start: int
    rows: int
    length: int
    first: int
    past: PastRows
    documents: Documents | None = None

    @property
    def stop(self) -> int:
        return self.start + self.rows * self.length


@dataclass(kw_only=True)
class View:
    """Positions [T] (for the rotary embedding), groups in packed order, and controls."""

    positions: Tensor
    groups: tuple[Group, ...]
    controls: Controls = field(default_factory=Controls)
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """What `make` gives at its first call with `key`: layers share what depends on the step alone."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def made(self, key: Any) -> Any:
        """What was made for `key`, None if nothing was."""
        return self._made.get(key)

    @classmethod
    def packed(
        cls, cu_seqlens: Sequence[int], *, positions: Tensor | None = None, controls: Controls | None = None,
        device: torch.device | str = "cpu", document: Tensor | None = None,
    ) -> View:  # fmt: skip
        """Whole sequences without a past; neighbours of equal length form one group.

        `cu_seqlens` are the cumulative lengths, starting with 0; `positions` [T] default to the place in the sequence,
        or in the document. `document` int [T]: sequences hold documents, numbered so that neighbours differ, none of
        which sees another.
        """
        lengths = np.diff(np.asarray(cu_seqlens))
        if positions is None:
            positions = torch.cat([torch.arange(int(n), device=device) for n in lengths])
            positions = positions if document is None else _restarted(positions, document)
        groups, i, start = [], 0, 0
        while i < len(lengths):
            same = i
            while same < len(lengths) and lengths[same] == lengths[i]:
                same += 1
            rows, n = same - i, int(lengths[i])
            here = positions[start : start + rows * n].view(rows, n)
            apart = None if document is None else Documents(document[start : start + rows * n].view(rows, n), here)
            groups.append(Group(start=start, rows=rows, length=n, first=0, past=FreshRows(here), documents=apart))
            i, start = same, start + rows * n
        return cls(positions=positions, groups=tuple(groups), controls=controls or Controls())

    @classmethod
    def step(
        cls, states: Sequence[SequenceState], counts: Sequence[int], *, controls: Controls | None = None
    ) -> View:
        """The next `counts[i]` tokens of each state; reserves pages. Call `commit` after the model ran."""
        groups, positions, start = [], [], 0
        for state, n in zip(states, counts, strict=True):
            state.reserve(n)
            positions.append(torch.arange(state.length, state.length + n, device=state.pool.device))
            groups.append(Group(start=start, rows=1, length=n, first=state.length, past=StateRows(state, n)))
            start += n
        return cls(positions=torch.cat(positions), groups=tuple(groups), controls=controls or Controls())

    def commit(self, tokens: Tensor) -> None:
        """Advance every state by the tokens that the model has just read."""
        ids = tokens.cpu().numpy()
        for group in self.groups:
            if isinstance(group.past, StateRows):
                group.past.commit(ids[group.start : group.stop])


def _restarted(positions: Tensor, document: Tensor) -> Tensor:
    """Places in sequences [T] as places in their documents."""
    place, new = torch.arange(len(positions), device=positions.device), positions == 0
    new[1:] |= document[1:] != document[:-1]
    return place - torch.where(new, place, 0).cummax(0).values


class FreshRows:
    """Sequences that begin with this step: nothing comes before, everything stays in the autograd graph."""

    def __init__(self, positions_BS: Tensor) -> None:
        self._positions = positions_BS

    def window(self, layer: int, rows: Tensor) -> Tensor:
        return rows

    def raw(self, layer: int, kind: str, rows: Tensor, *, since: int | None) -> Tensor | None:
        return None if since is None else rows[:, since:]

    def entries(self, layer: int, kind: str, first: int, values: Tensor) -> Rows:
        return DenseRows(values)

    def entry_positions(self, first: int, stop: int, ratio: int) -> Tensor:
        return self._positions[:, first * ratio : stop * ratio : ratio]

    def conv(self, layer: int, rows: Tensor) -> Tensor:
        return rows

    def ids_before(self, count: int) -> Tensor:
        return self._positions.new_empty(self._positions.shape[0], 0)


class Grown(NamedTuple):
    """Addresses of a layer's new window rows and, by kind, new raw rows, each straight behind the older ones; `past`
    window rows before the new ones are seen."""

    window: int
    past: int
    raw: dict[str, int]


class StateRows:
    """One sequence in the cache; collects the new tails and hands them over in `commit`."""

    def __init__(self, state: SequenceState, count: int, *, first: int | None = None) -> None:
        self._state, self._count = state, count
        self._first = state.length if first is None else first
        self._window: dict[int, Tensor] = {}
        self._raw: dict[tuple[int, str], tuple[Tensor, int]] = {}
        self._conv: dict[int, Tensor] = {}

    @property
    def _layout(self) -> CacheLayout:
        return self._state.layout

    def tail(self, layer: int) -> LayerTail:
        """The rows of `layer` before this step."""
        return self._state.tails[layer]

    def made(self, layer: int) -> LayerTail:
        """The rows of `layer` after this step, which has passed it."""
        old = self.tail(layer)
        raw = {k: self._raw[layer, k][0] for k in old.raw}
        raw_first = {k: self._raw[layer, k][1] for k in old.raw}
        return LayerTail(
            window=self._window[layer], raw=raw, raw_first=raw_first, conv=self._conv.get(layer, old.conv)
        )

    def grow(self, layer: int) -> Grown | None:
        """Room for the new rows of a layer, all of which the caller writes in this step; None where rows are not kept
        as plain FP32 or would have to be joined."""
        state, tail, layout, count = self._state, self.tail(layer), self._layout, self._count
        if not state.places.plain:
            return None
        past = len(tail.window)
        drop = max(past + count - layout.window_rows, 0)
        made = state.strips.grow((layer, "window"), tail.window, count, drop=drop)
        if made is None:
            return None
        window, self._window[layer] = made
        raw: dict[str, int] = {}
        for kind, old in tail.raw.items():
            first = tail.raw_first[kind]
            start = max(first, raw_start(layout, layer, self._first + count))
            made = state.strips.grow((layer, kind), old, count, drop=start - first)
            if made is None:
                return None
            raw[kind], self._raw[layer, kind] = made[0], (made[1], start)
        return Grown(window, min(past, layout.config.sliding_window - 1), raw)

    @property
    def places(self) -> Places:
        """Where the entries of the sequence lie."""
        return self._state.places

    def complete(self, layer: int, kind: str, first: int, count: int) -> None:
        """Entries first .. first + count - 1 were written where they lie."""
        self._state.pool.written(self._state.runs, (layer, kind), first, count)

    def window(self, layer: int, rows: Tensor) -> Tensor:
        """[1, S, K] -> past and new window rows [1, N, K], each as the storage format gives it back."""
        layout = self._layout
        stored = codec.encode(rows[0], format=layout.window, kind="main", rope_dims=layout.rope_dims)
        old = self.tail(layer).window
        past, count = old.shape[0], stored.shape[0]
        drop, seen = max(past + count - layout.window_rows, 0), min(past, layout.config.sliding_window - 1) + count
        used, self._window[layer] = self._state.strips.extend((layer, "window"), old, stored, drop=drop, used=seen)
        assert used is not None
        return codec.decode(
            used, format=layout.window, kind="main", width=layout.config.head_dim, rope_dims=layout.rope_dims
        ).unsqueeze(0).to(rows.dtype)

    def raw(self, layer: int, kind: str, rows: Tensor, *, since: int | None) -> Tensor | None:
        tail, stop = self.tail(layer), self._first + rows.shape[1]
        old, first = tail.raw[kind], tail.raw_first[kind]
        start = max(first, raw_start(self._layout, layer, stop))  # a rollback may have cut older rows away
        used, kept = self._state.strips.extend(
            (layer, kind), old, rows[0].to(old.dtype), drop=start - first, used=0 if since is None else stop - since
        )
        self._raw[layer, kind] = (kept, start)
        return None if used is None else used.unsqueeze(0)

    def entries(self, layer: int, kind: str, first: int, values: Tensor) -> Rows:
        state, made = self._state, values.shape[1]
        if made:
            state.pool.write(state.runs, (layer, kind), first, values[0])
        return PagedRows(state.pool, state.runs, (layer, kind), first + made)

    def entry_positions(self, first: int, stop: int, ratio: int) -> Tensor:
        return torch.arange(first, stop, device=self._state.pool.device).unsqueeze(0) * ratio

    def conv(self, layer: int, rows: Tensor) -> Tensor:
        tail = self.tail(layer).conv
        assert tail is not None
        every = tail.shape[0] + rows.shape[1]
        drop = max(every - self._layout.conv_rows, 0)
        new = rows[0].to(tail.dtype)
        both, self._conv[layer] = self._state.strips.extend((layer, "conv"), tail, new, drop=drop, used=every)
        assert both is not None
        return both.unsqueeze(0).to(rows.dtype)

    def ids_before(self, count: int) -> Tensor:
        past = self._state.tokens[max(0, self._first - count) : self._first].astype(np.int64)
        return torch.from_numpy(past).to(self._state.pool.device).unsqueeze(0)

    def commit(self, ids: np.ndarray) -> None:
        assert len(ids) == self._count
        self._state.append(ids, tuple(self.made(layer) for layer in range(len(self._state.tails))))
