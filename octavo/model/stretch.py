"""Steps of one token that follow each other in one sequence, of which nothing but the tokens is told.

Covers: `Stretch`: how many steps may follow before something else changes (a page, the end of a block of coarse keys,
the way in which entries are chosen), what they read and write, and handing it over to the state; `Several`, which runs
the next step of several stretches in one compiled call. Does not cover: what is computed (`octavo.kernels.step`), steps
of other kinds (`octavo.model.stack`).

Python's account of a step takes as long as half of the step, and threads take turns with it. So all of it that is not
asked for in between is done once for many tokens, and in parts, so that no step waits for all of it: the rotations of
the next stretch are made behind the last step but one, and whoever takes the last one's row settles behind that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.state import SequenceState
from octavo.cache.tails import LayerTail, raw_start
from octavo.cache.view import View
from octavo.kernels import step
from octavo.kernels.int8_linear import Int8Weight
from octavo.kernels.rope import loops
from octavo.kernels.step import together
from octavo.kernels.step.together import Head, Way
from octavo.model import stack
from octavo.model.block import Block
from octavo.model.rotary import Table
from octavo.model.stack import watched
from octavo.model.step import Prepared
from octavo.model.transformer import Transformer

_STEPS = 128  # of a stretch at most: room for its rows is taken beforehand, 14 KB a token of octavo-xs


class Row(NamedTuple):
    """Logits [1, V] of a sequence's newest token and the likeliest id, of equals the lowest; -1 where one is NaN."""

    logits: Tensor
    best: int


class _Turns(NamedTuple):
    """Rotations [n, P] of the tokens first, first + 1, ..: cos and sin, by whether a layer compresses."""

    first: int
    tables: dict[bool, Table]

    def serve(self, first: int, count: int) -> bool:
        return self.first == first and all(len(cosine) >= count for cosine, _ in self.tables.values())


class Stretch:
    """Steps first, first + 1, .. of `state`, which learns of them at `settle` and is left alone until then."""

    def __init__(self, state: SequenceState, steps: stack._Stack, left: int, ids: np.ndarray, known: int) -> None:
        self.left, self.done = left, 0
        self.state, self.steps = state, steps
        self._ids, self._known, self._first = ids, known, state.length
        self.way = Way([one.call for one in steps.prepared])
        self.turns: _Turns | None = None  # held
        self.ahead: _Turns | None = None  # of the next stretch

    @property
    def length(self) -> int:
        """Tokens of the sequence with those that the state does not know yet."""
        return self._first + self.done

    def reads(self, token: int) -> None:
        """The next step, which is not made yet, reads `token`."""
        assert self.left, "the stretch is over"
        self._ids[self._known + self.done] = token

    def moved(self) -> None:
        """The step was made."""
        self.done, self.left = self.done + 1, self.left - 1

    def settle(self) -> None:
        """Hand over what the steps made; the stretch is over. Twice is fine."""
        self.left, count = 0, self.done
        if not count:
            return
        state, layout, end = self.state, self.state.layout, self.length
        tails = []
        for layer, tail in enumerate(state.tails):
            kept = min(len(tail.window) + count, layout.window_rows)
            window, raw, raw_first = state.strips.take((layer, "window"), count, kept=kept), {}, {}
            for kind, first in tail.raw_first.items():
                start = max(first, raw_start(layout, layer, end))
                raw[kind], raw_first[kind] = state.strips.take((layer, kind), count, kept=end - start), start
            tails.append(LayerTail(window=window, raw=raw, raw_first=raw_first, conv=tail.conv))
        for one in self.steps.prepared:
            for kind in one.kinds:
                start, stop = self._first // one.block.ratio, end // one.block.ratio
                if stop > start:
                    state.pool.written(state.runs, (one.number, kind), start, stop - start)
        state.append(self._ids[self._known : self._known + count].astype(np.int32), tuple(tails))
        self._first, self.done = end, 0


class Several:
    """The next step of several stretches of one model in one call; from several threads at once too."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._head: Head | None = None

    @torch.inference_mode()
    def begin(self, state: SequenceState, *, most: int, before: Stretch | None = None) -> Stretch | None:
        """Up to `most` steps of `state`; `before` is the stretch of the same state that is
        over, if there was one. None where the next step must be another: where it is not compiled, ends a block whose
        coarse key is needed, or a hook watches."""
        head = self._whole()
        if head is None or most < 1 or not state.length:
            return None
        model, blocks = self._model, cast(tuple[Block, ...], tuple(self._model.layers))
        recalls = model.config.engram is not None
        if any(watched(block, recalls) for block in blocks):
            return None
        streams = head.held[0][:1].unsqueeze(1).expand(-1, model.config.hc_mult, -1)
        if not step.serves(streams):
            return None
        steps = None if before is None or before.state is not state else _renewed(before.steps, blocks)
        if steps is None or not _placed(steps, state):
            steps = _made(model, blocks, streams, state)
        if steps is None:
            return None
        left = min(most, _STEPS, len(state.pages) * PAGE_TOKENS - state.length)
        left = min(left, *[_left(one, state) for one in steps.prepared])
        known = min(state.length, max((b.engram.ngram for b in blocks if b.has_engram), default=1) - 1)
        ids = np.zeros(known + max(left, 1), dtype=np.int64)
        ids[:known] = state.tokens[state.length - known :]
        compressed = model.get_buffer("engram_map") if recalls else torch.empty(0)
        if left < 1 or not steps.reach(ids, known, compressed):
            return None
        stretch = Stretch(state, steps, left, ids, known)
        turns = None if before is None else before.ahead
        if turns is None or not turns.serve(state.length, left):
            turns = _turns(model, steps, state.length, left)
        _place(stretch, turns, left)
        return stretch

    def run(self, stretches: Sequence[Stretch], tokens: Sequence[int]) -> list[Row]:
        """What each stretch's model says behind its token; each has steps left."""
        if not stretches:
            return []
        head = self._whole() or self._head
        assert head is not None, "stretches begin with one"
        for stretch, token in zip(stretches, tokens, strict=True):
            stretch.reads(token)
        logits, best = together.run([stretch.way for stretch in stretches], tokens, head)
        for stretch in stretches:
            stretch.moved()
            if stretch.left == 1:
                stretch.ahead = _turns(self._model, stretch.steps, stretch.length + 1, _STEPS)
        return [Row(logits[i : i + 1], token) for i, token in enumerate(best)]

    def __reduce__(self) -> tuple[type[Several], tuple[Transformer]]:
        return Several, (self._model,)  # what is held belongs to one model's weights

    def _whole(self) -> Head | None:
        """The weights before and behind the layers as they are now; None where compiled code does not read them."""
        model = self._model
        embedding, weight, at = model.embed.weight, model.head.weight, model._head_pack.addresses()
        if at is None or isinstance(weight, Int8Weight) or _hooked(model) or _hooked(model.embed):
            return None
        held = self._head
        if held is not None and held.addresses == (embedding.data_ptr(), *at, weight.data_ptr()):
            return held
        if model.compute_dtype not in (None, torch.float32) or not _plain(embedding) or not _plain(weight):
            return None
        blocks = cast(tuple[Block, ...], tuple(model.layers))
        tables = [block.ffn.gate.get_buffer("tid2eid") if block.ffn.gate.hashed else None for block in blocks]
        if any(not table.is_contiguous() or table.dtype != torch.int64 for table in tables if table is not None):
            return None
        config = model.config
        self._head = Head(
            embedding.detach(), [part.detach() for part in model._head_pack.tensors()], weight.detach(), tables,
            eps=config.hc_eps, norm_eps=config.rms_norm_eps,
        )  # fmt: skip
        return self._head


def _made(model: Transformer, blocks: tuple[Block, ...], streams: Tensor, state: SequenceState) -> stack._Stack | None:
    """The layers of a step of one token of `state`, found anew."""
    tokens, view, recalls = torch.zeros(1, dtype=torch.int64), View.step([state], [1]), model.config.engram is not None
    steps = stack.made(blocks, streams, tokens, view, model.rotary, recalls=recalls)
    if steps is None:
        return None
    steps.release()
    for layer, tail in enumerate(state.tails):
        for name, old in (("window", tail.window), *tail.raw.items()):
            state.strips.give_back((layer, name), old, 1)
    return steps


def _renewed(steps: stack._Stack, blocks: tuple[Block, ...]) -> stack._Stack | None:
    """The layers of a stretch that is over, None where weights or blocks are others by now."""
    if len(blocks) != len(steps.prepared) or not steps.holds():
        return None
    pairs = zip(blocks, steps.prepared, strict=True)
    return steps if all(one.block is block and block._step.still(block, one.layer) for block, one in pairs) else None


def _placed(steps: stack._Stack, state: SequenceState) -> bool:
    """Let renewed layers read where the state's entries lie now, behind a page more; False where entries are chosen in
    another way from here on."""
    state.reserve(1)
    for one in steps.prepared:
        if state.length + 1 >= one.until or not one.find(state.places, state.length):
            return False
        one.call.first, one.call.past = state.length, min(len(state.tails[one.number].window), one.call.window - 1)
    return True


def _turns(model: Transformer, steps: stack._Stack, first: int, count: int) -> _Turns:
    """Rotations of `count` tokens from number `first` on."""
    positions, found = torch.arange(first, first + count), {}
    for one in steps.prepared:
        if (packed := one.block.ratio > 0) not in found:
            found[packed] = loops.table(positions, model.rotary.frequencies(one.block.ratio, positions.device))
    return _Turns(first, found)


def _place(stretch: Stretch, turns: _Turns, count: int) -> None:
    """Let the layers write the rows of the next `count` tokens, and turn them by their positions."""
    state, stretch.turns = stretch.state, turns
    for one in stretch.steps.prepared:
        call, tail = one.call, state.tails[one.number]
        cosine, sine = turns.tables[one.block.ratio > 0]
        call.cosine, call.sine = cosine.data_ptr(), sine.data_ptr()
        call.window_rows = state.strips.room((one.number, "window"), tail.window, count)
        for kind, old in tail.raw.items():
            at = state.strips.room((one.number, kind), old, count)
            if kind == "main":
                call.raw = at
            else:
                call.index_raw = at


def _left(one: Prepared, state: SequenceState) -> int:
    """Steps of a layer behind `state` for which nothing but addresses changes."""
    left = one.until - 1 - state.length
    if one.levels is not None:
        border = one.levels.border - state.length % one.levels.border
        left = min(left, border - one.levels.choose(state.length + border))
    return left


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _plain(weight: Tensor) -> bool:
    return weight.is_cpu and weight.dtype == torch.float32 and weight.is_contiguous()
