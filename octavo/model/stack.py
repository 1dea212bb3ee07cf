"""A step of a handful of tokens through all blocks of a model in one compiled call.

Covers: `StackStep`: when that serves, what is kept for the next step of the same sequence, and how blocks hand their
streams on. Does not cover: a single block's step (`octavo.model.step`), embedding and head
(`octavo.model.transformer`).

What a step is told beside its streams hardly changes from one to the next: weights and pages stay where they are.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.cache.view import Controls, StateRows, View
from octavo.kernels import step
from octavo.kernels.index_topk import scan
from octavo.kernels.step.whole import Layers, Recall
from octavo.model.block import Block, BlockReport
from octavo.model.engram import Engram
from octavo.model.linear import pack_of
from octavo.model.rotary import Rotary, Table
from octavo.model.step import Prepared, run_layers

_USUAL = Controls()


class StackStep:
    """The compiled step of a model's blocks. Parts of them may be replaced and weights may move at any time."""

    def __init__(self) -> None:
        self._kept: list[_Stack] = []  # at most one; a step takes it out, so that two threads never share it

    def run(
        self, blocks: Sequence[Block], streams: Tensor, tokens: Tensor, view: View, rotary: Rotary,
        compressed: Tensor | None,
    ) -> tuple[Tensor, tuple[BlockReport, ...]] | None:  # fmt: skip
        """Streams [T, M, D] behind the blocks, and their reports; arguments as of `Block.forward`. None where blocks
        must run one by one: where one of them does not run as a whole (`octavo.model.step`), where a hook watches one,
        and where Engram has a convolution."""
        groups = view.groups
        if len(groups) != 1 or type(groups[0].past) is not StateRows or not step.serves(streams):
            return None
        if any(watched(block, compressed is not None) for block in blocks):
            return None
        try:
            stack = self._kept.pop()
        except IndexError:
            stack = None
        if stack is None or not stack.follows(blocks, streams.shape, tokens, view, rotary):
            stack = made(blocks, streams, tokens, view, rotary, recalls=compressed is not None)
        if stack is None or not stack.recall(tokens, view, compressed):
            return None
        out = stack.run(streams)
        reports = tuple([BlockReport(None, one.masses, None) for one in stack.prepared])
        if view.controls == _USUAL and not self._kept:
            stack.release()
            self._kept.append(stack)
        return out, reports

    def __reduce__(self) -> tuple[type[StackStep], tuple[()]]:
        return StackStep, ()  # what is kept belongs to one model's weights


def watched(block: Block, recalls: bool) -> bool:
    """Whether a hook sees what passes into or out of the block or its Engram, or that convolves."""
    if block._forward_hooks or block._forward_pre_hooks:
        return True
    engram = block._modules.get("engram") if recalls else None
    if engram is None:
        return False
    assert isinstance(engram, Engram)
    return engram.has_conv or bool(engram._forward_hooks or engram._forward_pre_hooks)


def made(
    blocks: Sequence[Block], streams: Tensor, tokens: Tensor, view: View, rotary: Rotary, *, recalls: bool
) -> _Stack | None:
    """The step of these blocks, None where one of them does not run as a whole."""
    for block in blocks:
        block._step.prepare(block, streams, tokens, view, rotary)
    found = [block._step.prepared(view) for block in blocks]
    prepared = [one for one in found if one is not None]
    return None if len(prepared) < len(found) else _Stack(prepared, view, recalls=recalls)


class _Stack:
    """All blocks' steps but for the first one's streams. Only the last block gives streams that outlive the step."""

    def __init__(self, prepared: list[Prepared], view: View, *, recalls: bool) -> None:
        past = view.groups[0].past
        assert isinstance(past, StateRows)
        self.prepared, self.shape = prepared, prepared[0].shape
        self._places, self._changes = weakref.ref(past.places), past.places.changes
        self._rules = torch.get_num_threads(), scan.level()
        self._layers, self._passed = Layers(*[one.call for one in prepared]), torch.empty(2, *self.shape)
        between, recalled = self._passed[0].data_ptr(), self._passed[1].data_ptr()
        for one in prepared:
            one.call.streams = one.call.out = between
        self._recalls = [_Recall(one, recalled) for one in prepared if recalls and one.block.has_engram]
        self._reach = max((one.block.engram.ngram - 1 for one in prepared if one.block.has_engram), default=0)
        self._known, self._ids = False, (torch.empty(0), torch.empty(0))  # ids are held while a step reads them

    def follows(
        self, blocks: Sequence[Block], shape: torch.Size, tokens: Tensor, view: View, rotary: Rotary
    ) -> bool:  # fmt: skip
        """Whether this serves the view's step too, which is then prepared."""
        group, places = view.groups[0], self._places()
        past, first, end = group.past, group.first, group.first + group.length
        assert isinstance(past, StateRows)
        if shape != self.shape or places is None or places is not past.places or places.changes != self._changes:
            return False
        if view.controls != _USUAL or self._rules != (torch.get_num_threads(), scan.level()):
            return False
        if len(blocks) != len(self.prepared) or not self.holds():
            return False
        tables: dict[bool, Table] = {}  # both kinds of layers have one
        for block, one in zip(blocks, self.prepared, strict=True):
            if one.block is not block or end >= one.until or not block._step.still(block, one.layer):
                return False
            grown, packed = past.grow(one.number), block.ratio > 0
            if grown is None:
                return False
            if packed not in tables:
                tables[packed] = block.table(view, rotary, torch.float32)
            one.place(past, grown, first, tokens, tables[packed])
        return True

    def recall(self, tokens: Tensor, view: View, compressed: Tensor | None) -> bool:
        """Let blocks recall for these tokens, which the embedding knows; False where Engram's weights are not FP32
        matrices or its map does not know the ids before them, which single operations say better."""
        if not self._recalls or compressed is None:
            return True
        before = view.groups[0].past.ids_before(self._reach)[0].contiguous()
        if not self._known:  # later ones are those that were steps' tokens
            self._known = compressed.dtype == torch.int64 and compressed.is_contiguous()
            self._known = self._known and bool(((before >= 0) & (before < len(compressed))).all())
        self._ids = tokens.contiguous(), before
        return self._known and all(each.place(*self._ids, view, compressed) for each in self._recalls)

    def run(self, streams: Tensor) -> Tensor:
        """Streams behind the last block."""
        streams, out = streams.contiguous(), torch.empty(self.shape)
        self.prepared[0].call.streams, self.prepared[-1].call.out = streams.data_ptr(), out.data_ptr()
        run_layers(self._layers, self.prepared)
        return out

    def reach(self, ids: np.ndarray, known: int, compressed: Tensor) -> bool:
        """Let blocks recall for ids[known], later ones with every step of `octavo.kernels.step.together`; `ids` int64
        stays where it is and begins with the `known` ids before. False where Engram's table is not in memory as FP32,
        or its map or the ids before are not such that compiled code reads them."""
        if not self._recalls:
            return True
        self._known = compressed.dtype == torch.int64 and compressed.is_contiguous() and known >= self._reach
        before = ids[:known]
        self._known = self._known and bool(((before >= 0) & (before < len(compressed))).all())
        return self._known and all(each.reach(ids, known, compressed) for each in self._recalls)

    def holds(self) -> bool:
        """Whether the blocks still have their Engrams."""
        return all(each.holds() for each in self._recalls)

    def release(self) -> None:
        """Hold nothing of the sequence, which may end before its next step."""
        for one in self.prepared:
            one.release()


class _Recall:
    """What Engram does before its block, as part of the block's step."""

    def __init__(self, one: Prepared, recalled: int) -> None:
        self._block, self._step = one.block, one.call
        self._engram = engram = one.block.engram
        self._reads = type(engram) is Engram  # else its table is not in memory
        maps = pack_of(engram.wkv, engram.q_norm, engram.k_norm)
        self._maps, self._table = maps, pack_of(engram.table) if self._reads else None
        plan, numbers = engram.plan, engram.wkv.weight.shape[1]
        self._hash = [np.array(each, dtype=np.int64) for each in (plan.multipliers, plan.moduli, plan.offsets)]
        self._memory: Tensor | None = None
        multipliers, moduli, offsets = [each.ctypes.data for each in self._hash]
        self._call = Recall(
            multipliers=multipliers, moduli=moduli, offsets=offsets, recalled=recalled, pad=engram.pad,
            ngram=engram.ngram, heads=plan.heads, row=numbers // len(plan.moduli), numbers=numbers,
        )  # fmt: skip

    def holds(self) -> bool:
        """Whether the block still has this Engram."""
        return self._block._modules["engram"] is self._engram

    def reach(self, ids: np.ndarray, known: int, compressed: Tensor) -> bool:
        """As `_Stack.reach`, of which all else is known."""
        call, at = self._call, self._maps.addresses()
        table = None if self._table is None else self._table.addresses()
        if at is None or table is None:
            return False
        call.weight, call.query_gain, call.key_gain = at
        call.table, call.smaller, call.tokens = table[0], compressed.data_ptr(), ids.ctypes.data + 8 * known
        call.known = min(known, self._engram.ngram - 1)
        call.before = ids.ctypes.data + 8 * (known - call.known)
        self._step.memory = ctypes.addressof(call)
        return True

    def place(self, tokens: Tensor, before: Tensor, view: View, compressed: Tensor) -> bool:
        """Let the step recall for these tokens, before which come the ids `before` [n]; False where weights are no FP32
        matrices."""
        call, at = self._call, self._maps.addresses()
        if at is None:
            return False
        call.weight, call.query_gain, call.key_gain = at
        if self._table is None:
            self._memory = self._engram.recalled(tokens, view, compressed).float().contiguous()
            call.memory = self._memory.data_ptr()
        else:
            table = self._table.addresses()
            if table is None:
                return False
            call.table, call.smaller, call.tokens = table[0], compressed.data_ptr(), tokens.data_ptr()
            call.known = min(len(before), self._engram.ngram - 1)
            call.before = before.data_ptr() + 8 * (len(before) - call.known)
        self._step.memory = ctypes.addressof(call)
        return True
