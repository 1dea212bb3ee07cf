"""Chunks of one sequence, captured once for each number of rows and width of tables, and replayed.

Covers: `ChunkSteps`. Which slot a chunk goes on with, where it begins and how long it is are read from the device; it
runs as 32, 64 or 128 rows or a multiple of 256, those that are left over do nothing. Chunks of more than a thousand
rows, and those that report attention mass, run as they are: their launches take the host no longer than the GPU. Does
not cover: what a chunk is and how the sequence grows (`runner`), steps of few tokens (`graphs`).

The rows of the slot are copied before anything is written, with a number that says whose they are: a chunk that fails
on its way gives them back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from octavo.cache.slots import ChunkRing, LayerSlots, Slots, power_of_two
from octavo.engine.gpu.graphs import POSITIONS, RECENT, SLOTS, TOKENS, StepInput, nothing, width_of
from octavo.engine.gpu.replay import Captures, Replay, Staging
from octavo.kernels.paged import Places, Ring
from octavo.model.gpu.forward import GpuModel, Seen, Step

_LEAST, _PAD, _MOST = 32, 256, 1024
ROWS = (*(_LEAST << n for n in range((_PAD // _LEAST).bit_length() - 1)), *range(_PAD, _MOST + 1, _PAD))
"""Numbers of rows as which chunks are captured (`padded`)."""
_SLOT, _FIRST, _COUNT, _NUMBER = range(4)  # what stands in the place of the tokens' slots
_NOTES = 4


@dataclass(slots=True)
class _Left:
    """What the launches of a chunk leave: streams [R, M, D] and attention mass by layer."""

    streams: Tensor
    seen: tuple[Seen, ...] = ()


class _Prepared:
    """One chunk: the buffers that it reads, what it leaves, its launches. These know the buffers but not the chunk: one
    that is not kept is gone, and the GPU's memory with it, as soon as nobody has it."""

    def __init__(self, inputs: Tensor, left: _Left, replay: Replay) -> None:
        self.inputs, self.left, self.replay = inputs, left, replay
        self.staging = Staging(inputs.shape[0], inputs.shape[1], inputs.device)


class ChunkSteps:
    """Chunks of `model` over `slots`. Not safe for use from several threads at once."""

    def __init__(self, model: GpuModel, slots: Slots, captures: Captures | None) -> None:
        self._model, self._slots, self._captures = model, slots, captures
        config = model.config
        self._context = 0 if config.engram is None else config.engram.max_ngram_size
        self._copy = _SlotCopy(slots)
        self._rings: dict[int, ChunkRing] = {}
        self._steps: dict[tuple[int, int], _Prepared] = {}
        self._number = 0  # of the newest chunk
        with torch.inference_mode(False):
            shape = (_MOST, config.hc_mult, config.hidden_size)
            self._streams = torch.empty(shape, dtype=model.dtype, device=slots.device)

    def __len__(self) -> int:
        """Different chunks met so far that are captured."""
        return len(self._steps)

    def run(
        self, given: StepInput, *, slot: int, first: int, pages: int, mass: bool = False
    ) -> tuple[Tensor, tuple[Seen, ...]]:
        """Tokens first .. of the sequence in `slot`, all within its first `pages` pages -> streams [T, M, D], which the
        next chunk overwrites, and attention mass by layer."""
        count, self._number = len(given.tokens), self._number + 1
        made = self._step(padded(count), width_of(pages, self._slots.pages), mass)
        self._send(made, given, (slot, first, count, self._number))
        made.replay()
        return made.left.streams[:count], tuple(one.first(count) for one in made.left.seen)

    def undo(self) -> None:
        """The chunk that `run` was last called for has failed: its slot gets back what it had."""
        self._copy.give_back(self._number)

    @torch.inference_mode()
    def warm(self, tokens: int, *, pages: int, rehearse: bool = False) -> None:
        """Have chunks of `tokens` tokens compiled and captured, or run one as a rehearsal; nothing is written."""
        self._number += 1
        made = self._step(padded(tokens), width_of(pages, self._slots.pages), False)
        self._send(made, nothing(self._context), (0, 0, 0, self._number))
        if rehearse:
            return made.replay.rehearse()
        made.replay()
        made.replay()

    def _send(self, made: _Prepared, given: StepInput, notes: tuple[int, int, int, int]) -> None:
        to = made.staging.array()
        given.fill(to)
        to[SLOTS, :_NOTES] = notes
        made.staging.send(made.inputs)

    def _step(self, rows: int, width: int, mass: bool) -> _Prepared:
        if mass or rows > _MOST:
            return self._prepare(rows, width, mass)
        if (rows, width) not in self._steps:
            self._steps[rows, width] = self._prepare(rows, width, False)
        return self._steps[rows, width]

    def _prepare(self, rows: int, width: int, mass: bool) -> _Prepared:
        model, slots, copy, context = self._model, self._slots, self._copy, self._context
        kept = not mass and rows <= _MOST
        with torch.inference_mode(False):
            inputs = torch.zeros(3 + context, rows, dtype=torch.int64, device=slots.device)
            table = torch.zeros(1, width, dtype=torch.int32, device=slots.device)
            sequence = torch.zeros(rows, dtype=torch.int32, device=slots.device)
        layers, ring, left = copy.layers(table), self._ring(rows), _Left(self._streams)

        def run() -> None:
            slot, first, count, number = (inputs[SLOTS, at : at + 1] for at in range(_NOTES))
            copy.take(slot, number)
            table.copy_(slots.table[:, :width].index_select(0, slot))
            ring.begin(slot, first, count, layers[0].ring.length)
            places = Places(sequence, inputs[POSITIONS].int())
            recent = inputs[RECENT:].T.contiguous() if context else None
            seen: list[Seen] | None = [] if mass else None
            streams = model.forward(Step(inputs[TOKENS], places, rows, recent), layers, chunk=ring, seen=seen)
            copy.put(slot)
            if kept:  # one buffer for all: what a graph leaves in its pool is there as long as the graph
                left.streams[:rows].copy_(streams)
            else:
                left.streams, left.seen = streams, tuple(seen or ())

        return _Prepared(inputs, left, Replay(run, self._captures if kept else None))

    def _ring(self, rows: int) -> ChunkRing:
        """A ring that is long enough, of few lengths."""
        most = power_of_two(rows)
        if most not in self._rings:
            self._rings[most] = ChunkRing(self._slots.layout, most, self._slots.device)
        return self._rings[most]


class _SlotCopy:
    """The rows of one slot: those before the chunk, and the compressors' as the chunk goes on with them."""

    def __init__(self, slots: Slots) -> None:
        self._all = slots.layers()
        with torch.inference_mode(False):
            self._rings = [torch.zeros_like(layer.ring.rows[:1]) for layer in self._all]
            sizes = [ring.rows[:1].numel() for layer in self._all for ring in layer.partial.values()]
            both = torch.zeros(2, max(1, sum(sizes)), device=slots.device)
            self._begun, self._slot = torch.zeros(2, 1, dtype=torch.int64, device=slots.device)
        self._before, self._now = both
        self._partial = [self._views(part) for part in both]

    def _views(self, flat: Tensor) -> list[dict[str, Ring]]:
        """Raw rows [1, R, 2w] by layer and kind, one after the other in `flat`."""
        found: list[dict[str, Ring]] = []
        at = 0
        for layer in self._all:
            found.append({})
            for kind, ring in layer.partial.items():
                shape = (1, *ring.rows.shape[1:])
                size = ring.rows[:1].numel()
                found[-1][kind] = Ring(flat[at : at + size].view(shape))
                at += size
        return found

    def layers(self, table: Tensor) -> list[LayerSlots]:
        """The cache of every layer as a chunk uses it: the rings of all slots, pages behind `table` int32 [1, n], raw
        rows of the copy."""
        return [
            LayerSlots(layer.ring, {kind: replace(store, table=table) for kind, store in layer.stores.items()}, raw)
            for layer, raw in zip(self._all, self._partial[1], strict=True)
        ]

    def take(self, slot: Tensor, number: Tensor) -> None:
        """Copy the rows of `slot` int64 [1] for the chunk `number`."""
        for layer, ring, raw in zip(self._all, self._rings, self._partial[0], strict=True):
            torch.index_select(layer.ring.rows, 0, slot, out=ring)
            for kind, rows in layer.partial.items():
                torch.index_select(rows.rows, 0, slot, out=raw[kind].rows)
        self._now.copy_(self._before)
        self._slot.copy_(slot)
        self._begun.copy_(number)

    def put(self, slot: Tensor) -> None:
        """The compressors' rows, as the chunk left them, are those of `slot`."""
        self._write(slot, self._partial[1])

    def give_back(self, number: int) -> None:
        """What the slot of the chunk `number` had, where the chunk came as far as to copy it."""
        if int(self._begun) != number:
            return
        for layer, ring in zip(self._all, self._rings, strict=True):
            layer.ring.rows.index_copy_(0, self._slot, ring)
        self._write(self._slot, self._partial[0])

    def _write(self, slot: Tensor, partial: list[dict[str, Ring]]) -> None:
        for layer, raw in zip(self._all, partial, strict=True):
            for kind, rows in layer.partial.items():
                rows.rows.index_copy_(0, slot, raw[kind].rows)


def padded(count: int) -> int:
    """Rows that a chunk of `count` tokens is run as: a power of two from 32 up to 256, then a multiple of that."""
    return power_of_two(max(count, _LEAST)) if count <= _PAD else -(-count // _PAD) * _PAD
