"""Sequences as a GPU's kernels go on with them: rings of the newest rows beside the pages, one slot a sequence.

Covers: `Slots` (rings, raw rows of compressors and page tables of a fixed number of sequences, allocated once so that
a captured graph stays valid), tails into a slot and back, which rows a slot still has, `ChunkRing` for the window rows
of a long chunk. Does not cover: pages (`pool`), which sequence has which slot (`octavo.engine.gpu`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import StoreKey
from octavo.cache.tails import LayerTail, raw_start
from octavo.config.errors import ConfigError, LimitError
from octavo.config.model import CSA_RATIO
from octavo.kernels.paged import PagedStore, Ring

_FORMATS = (RowFormat.FP32, RowFormat.BF16, RowFormat.FP8, RowFormat.FP4)


@dataclass(frozen=True)
class LayerSlots:
    """One layer's cache over all slots of a step: window rows, and by kind the paged store and the raw rows."""

    ring: Ring
    stores: dict[str, PagedStore]
    partial: dict[str, Ring]


@dataclass
class _Known:
    """Numbers of the first tokens whose window row, and whose raw row by ratio, a slot was given; and one more than the
    highest token that was written: a ring of R rows has nothing before the last R of those."""

    window: int
    raw: dict[int, int]
    high: int


def power_of_two(least: int) -> int:
    """The smallest power of two from `least` on."""
    return 1 << max(0, least - 1).bit_length()


class Slots:
    """Room for `count` sequences of up to `pages` pages each.

    `rows` are the pool's pages by store, [pages * entries_per_page, row_bytes] uint8. `bias` are the position biases
    [ratio, w] of the compressors: tails hold raw scores with them, the kernels' rings without. Raises ConfigError for a
    row format that the kernels do not have.
    """

    def __init__(
        self, layout: CacheLayout, rows: Mapping[StoreKey, Tensor], bias: Mapping[StoreKey, Tensor], *, count: int,
        pages: int, device: torch.device | str,
    ) -> None:  # fmt: skip
        for name in ("main", "index"):
            given = getattr(layout, name)
            if given not in _FORMATS:
                raise ConfigError(f"{name} is {given}; on a GPU it must be one of {', '.join(_FORMATS)}")
        self.layout, self.count, self.pages, self.device = layout, count, pages, torch.device(device)
        self._rows, self._bias = rows, bias
        self._window = power_of_two(layout.window_rows)
        self._rooms = {spec.ratio: power_of_two(spec.rows) for spec in layout.partials}
        self._known = [_Known(0, dict.fromkeys(self._rooms, 0), 0) for _ in range(count)]
        with torch.inference_mode(False):  # tensors made in inference mode could be written nowhere else
            self.table = torch.zeros(count, pages, dtype=torch.int32, device=device)
            shape = (count, self._window, layout.window_row_bytes)
            self._rings = [
                torch.zeros(shape, dtype=torch.uint8, device=device) for _ in range(layout.config.num_hidden_layers)
            ]
            self._partial = {
                (spec.layer, spec.kind): torch.zeros(count, power_of_two(spec.rows), 2 * spec.width, device=device)
                for spec in layout.partials
            }

    @property
    def nbytes(self) -> int:
        """Bytes of all rings and tables."""
        return sum(t.nbytes for t in (self.table, *self._rings, *self._partial.values()))

    @property
    def spare(self) -> int:
        """Most tokens of a step that leaves in every ring the rows that a step in its place would need."""
        rooms = [self._window - (self.layout.config.sliding_window - 1)]
        for ratio, room in self._rooms.items():
            span = 2 * ratio if ratio == CSA_RATIO else ratio
            rooms.append(room - (span - 1))
        return min(rooms)

    def layers(self, table: Tensor | None = None) -> list[LayerSlots]:
        """The cache of every layer over all slots, behind `table` int32 [count, n] (default: their whole tables)."""
        table = self.table if table is None else table
        found = [LayerSlots(Ring(ring), {}, {}) for ring in self._rings]
        for spec in self.layout.stores:
            rope = self.layout.rope_dims if spec.kind == "main" else 0
            found[spec.layer].stores[spec.kind] = PagedStore(
                rows=self._rows[spec.layer, spec.kind], table=table, ratio=spec.ratio, width=spec.width,
                format=spec.format.value, rope=rope,  # pyright: ignore[reportArgumentType]
            )  # fmt: skip
            found[spec.layer].partial[spec.kind] = Ring(self._partial[spec.layer, spec.kind])
        return found

    def put_pages(self, slot: int, pages: list[int], *, start: int = 0) -> None:
        """The slot's pages from number `start` on; LimitError beyond its table."""
        if start + len(pages) > self.pages:
            raise LimitError(f"{start + len(pages)} pages are more than the {self.pages} of a sequence on this GPU")
        if pages:
            self.table[slot, start : start + len(pages)] = torch.tensor(pages, dtype=torch.int32).to(self.device)

    def load(self, slot: int, tails: tuple[LayerTail, ...], length: int) -> None:
        """Take over the tails of a sequence of `length` tokens."""
        known = self._known[slot] = _Known(0, dict.fromkeys(self._rooms, 0), length)
        for layer, tail in enumerate(tails):
            known.window = max(known.window, length - len(tail.window))
            for values in tail.raw.values():
                ratio = self.layout.config.layer_ratios[layer]
                known.raw[ratio] = max(known.raw[ratio], length - len(values))
            n = min(len(tail.window), self._window)
            if n:
                places = torch.arange(length - n, length, device=self.device) % self._window
                self._rings[layer][slot].index_copy_(0, places, tail.window[-n:])
            for kind, values in tail.raw.items():
                ring = self._partial[layer, kind][slot]
                n = min(len(values), len(ring))
                if n:
                    tokens = torch.arange(length - n, length, device=self.device)
                    rows = values[-n:].float().clone()
                    rows[:, rows.shape[1] // 2 :] -= self._bias_of(layer, kind, tokens)
                    ring.index_copy_(0, tokens % len(ring), rows)

    def writes(self, slot: int, first: int, count: int, *, chunk: bool = False) -> None:
        """A step is going to write the rows of the tokens first .. first + count - 1 into the slot, a `chunk` through
        its own ring, of which the newest are kept. What they take the place of is no longer there."""
        known = self._known[slot]
        known.high = max(known.high, first + count)
        if chunk:
            known.window = max(known.window, first + count - self.layout.window_rows)

    def holds(self, slot: int, length: int) -> bool:
        """Whether the slot has every row that a step behind the first `length` tokens of its sequence needs."""
        if max(0, length - (self.layout.config.sliding_window - 1)) < self._first_window(slot):
            return False
        layer_of = self.layout.config.layer_ratios.index
        return all(
            raw_start(self.layout, layer_of(ratio), length, margin=0) >= self._first_raw(slot, ratio)
            for ratio in self._rooms
        )

    def _first_window(self, slot: int) -> int:
        known = self._known[slot]
        return max(known.window, known.high - self._window)

    def _first_raw(self, slot: int, ratio: int) -> int:
        known = self._known[slot]
        return max(known.raw[ratio], known.high - self._rooms[ratio])

    def save(self, slot: int, length: int) -> tuple[LayerTail, ...]:
        """The tails of the slot's sequence at `length` tokens, copied: of the rows for a rollback those it has."""
        first_window = max(0, length - self.layout.window_rows, self._first_window(slot))
        places = torch.arange(first_window, length, device=self.device) % self._window
        ratios = self.layout.config.layer_ratios
        raw: list[dict[str, Tensor]] = [{} for _ in self._rings]
        first: list[dict[str, int]] = [{} for _ in self._rings]
        for (layer, kind), rings in self._partial.items():
            start = max(raw_start(self.layout, layer, length), self._first_raw(slot, ratios[layer]))
            tokens = torch.arange(start, length, device=self.device)
            rows = rings[slot].index_select(0, tokens % rings.shape[1])
            rows[:, rows.shape[1] // 2 :] += self._bias_of(layer, kind, tokens)
            raw[layer][kind], first[layer][kind] = rows, start
        return tuple(
            LayerTail(window=ring[slot].index_select(0, places), raw=values, raw_first=starts)
            for ring, values, starts in zip(self._rings, raw, first, strict=True)
        )

    def _bias_of(self, layer: int, kind: str, tokens: Tensor) -> Tensor:
        bias = self._bias[layer, kind]
        return bias[tokens % len(bias)]


class ChunkRing:
    """Window rows of a chunk of up to `tokens` tokens of one sequence, shared by all layers: a ring that is long enough
    for the chunk and the window before it, filled from a slot before a layer and put back after it. Which slot and
    which tokens they are is read from the device, so that a captured graph stays valid."""

    def __init__(self, layout: CacheLayout, tokens: int, device: torch.device | str) -> None:
        self._before = layout.config.sliding_window - 1
        self.length = power_of_two(tokens + self._before)
        with torch.inference_mode(False):  # tensors made in inference mode could be written nowhere else
            rows = torch.zeros(1, self.length, layout.window_row_bytes, dtype=torch.uint8, device=device)
            self._past = torch.arange(-self._before, 0, device=device)
            self._new = torch.arange(-layout.window_rows, 0, device=device)
        self.ring = Ring(rows)
        self._into: tuple[Tensor, Tensor] | None = None
        self._back: tuple[Tensor, Tensor] | None = None

    def begin(self, slot: Tensor, first: Tensor, count: Tensor, window: int) -> None:
        """The chunk is tokens first .. first + count - 1 of the sequence in `slot`, each int64 [1]; slots have rings of
        `window` rows. The number of rows that move is always the same: those of tokens before the sequence's first are
        read by nobody, and rows that the slot still has go back as they came."""
        past = first + self._past
        new = torch.maximum(first + count + self._new, first - self._before)
        begin = slot * window
        self._into = past % self.length, begin + past % window
        self._back = new % self.length, begin + new % window

    def enter(self, slots: Ring) -> Ring:
        """The rows before the chunk are in the ring that is returned; `slots`: a layer's rings of all slots."""
        assert self._into is not None, "begin comes first"
        to, of = self._into
        self.ring.rows[0].index_copy_(0, to, slots.rows.flatten(0, 1).index_select(0, of))
        return self.ring

    def leave(self, slots: Ring) -> None:
        """The newest rows go back to the slot."""
        assert self._back is not None, "begin comes first"
        of, to = self._back
        slots.rows.flatten(0, 1).index_copy_(0, to, self.ring.rows[0].index_select(0, of))
