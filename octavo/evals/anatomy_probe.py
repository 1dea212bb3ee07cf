"""Attention that says where it looked, and that can be told to look elsewhere: the instrument of `anatomy`.

Covers: a stand-in for the attention of every layer, in plain operations, that reports what an answer's evidence got
and applies one change. Does not cover: questions, what the report says (`anatomy`), GPUs' fused kernels, which run
no stand-in.

Evidence is given as spans of document tokens. The entries that hold a span are those whose own tokens meet it and, in
layers of ratio 4, the one behind them, which is pooled from their last tokens too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

import torch
from torch import Tensor, nn

from octavo.cache.view import Controls, Group, View
from octavo.config.errors import UsageError
from octavo.config.model import CSA_RATIO
from octavo.engine.llm import LLM
from octavo.engine.runner import Runner
from octavo.kernels.index_topk import index_scores
from octavo.kernels.projections import Inputs
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Picked, Selection
from octavo.model.attention import Attention, AttentionOutput, Mass
from octavo.model.block import Block
from octavo.model.indexer import Queries
from octavo.model.rotary import Rotary

USUAL_TOKENS = 2048
"""Length at which a temperature that grows with length is 1."""
_MULTIPLIER, _PRIME = 48_271, 2**31 - 1  # a fixed draw by number (the minimal standard generator's step)


class EvidencePicks(StrEnum):
    """What becomes of the picks of CSA layers: the evidence is added to them; it is, and of the others a quarter drawn
    by their numbers is left; nothing but it is left."""

    ADDED = "added"
    THINNED = "thinned"
    ALONE = "alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One change of the attention to compressed entries. fewer: CSA layers pick a quarter as many, the best by the
    index; hca: dense layers see their entries; sharpened: logits of entries grow with the logarithm of the length,
    times ln(tokens) / ln(2,048)."""

    picks: EvidencePicks | None = None
    fewer: bool = False
    hca: bool = True
    sharpened: bool = False

    def factor(self, tokens: int) -> float:
        """What logits of compressed entries are multiplied by behind so many tokens."""
        return max(1.0, math.log(max(tokens, 2)) / math.log(USUAL_TOKENS)) if self.sharpened else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLook:
    """What a step's S queries did in one layer, with P spans of evidence and H heads; tensors FP32 or int64.

    entries: complete ones. picked [S, P]: share of a span's entries among the picks, rank [S, P]: place of its best
    entry by index score, from 1; both only of CSA layers. Probabilities [S, H]: `others` are entries that hold no
    evidence. spans [S, H, P]: probability on each span's entries. entropy [S, H]: of the softmax over the entries that
    were looked at, in bits, 0 for none.
    """

    layer: int
    ratio: int
    entries: int
    picked: Tensor | None
    rank: Tensor | None
    spans: Tensor
    others: Tensor
    window: Tensor
    sink: Tensor
    entropy: Tensor


@dataclass(kw_only=True)
class Watch:
    """What the stand-ins are told: spans of evidence (document tokens), the change, whether to note `looks`."""

    spans: Sequence[tuple[int, int]] = ()
    repair: Repair = field(default_factory=Repair)
    noting: bool = False
    looks: list[LayerLook] = field(default_factory=list)


@contextmanager
def watched(llm: LLM, watch: Watch) -> Iterator[None]:
    """Stand-ins in place of all attention layers of `llm` while the block lasts, and a runner that calls them.

    Raises UsageError for simulated rounding.
    """
    blocks = cast(Sequence[Block], list(llm.model.layers))
    if any(block.attn.simulate for block in blocks):
        raise UsageError("anatomy needs a model that rounds nothing on the way")
    before, runner = [block.attn for block in blocks], llm.runner
    try:
        if llm.pool.fixed:
            llm.runner = Runner(llm.model, llm.pool, chunk=runner.chunk, name=llm.name)
        for block in blocks:
            block.attn = WatchedAttention(block.attn, watch)
        yield
    finally:
        for block, attention in zip(blocks, before, strict=True):
            block.attn = attention
        llm.runner = runner


def entry_range(span: tuple[int, int], ratio: int, complete: int) -> tuple[int, int]:
    """First entry that holds a token of `span`, and the one behind the last; both at most `complete`."""
    start, stop = span
    last = (stop - 1) // ratio + 1 + (ratio == CSA_RATIO)
    return min(start // ratio, complete), min(last, complete)


class WatchedAttention(Attention):
    """`Attention` over the parts of `given`, in plain operations."""

    watch: Watch

    def __init__(self, given: Attention, watch: Watch) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(given.__dict__)
        self.__dict__["watch"] = watch

    @property
    def plain(self) -> bool:
        """False, so that no compiled step takes the layer's place."""
        return False

    def attend(
        self, made: Inputs, view: View, rotary: Rotary, dtype: torch.dtype, *, placed: bool = False
    ) -> AttentionOutput:
        """See `Attention.attend`; one sequence a step."""
        if len(view.groups) != 1 or view.groups[0].rows != 1:
            raise UsageError("anatomy watches one sequence at a time")
        group = view.groups[0]
        window = group.past.window(self.layer, made.kv.unsqueeze(0))
        rows, scores, selection = None, None, None
        if made.raw is not None:
            rows = self.compressor.entries(made.raw.unsqueeze(0), group, rotary, dtype, placed=placed)
        if made.index_q is not None and made.index_w is not None and made.index_raw is not None:
            keys = self.indexer.compressor.entries(made.index_raw.unsqueeze(0), group, rotary, dtype, placed=placed)
            asked = Queries(made.index_q.unsqueeze(0), made.index_w.unsqueeze(0))
            selection = self.indexer.select(asked, keys, group, self._controls(view.controls))
            if self.watch.noting:
                scores = index_scores(asked.q, asked.w, keys.tile(0, keys.length))[0]
        elif rows is not None:
            hca = view.controls.hca and self.watch.repair.hca
            selection = Causal(self.ratio, view.controls.hca_offset) if hca else None
        out, mass = self._watched(made.q, window[0], rows, selection, scores, group)
        return AttentionOutput(out, None, mass if view.controls.mass else ())

    def _controls(self, given: Controls) -> Controls:
        """What the index is asked for."""
        if not self.watch.repair.fewer:
            return given
        usual = self.indexer.topk if given.index_topk is None else given.index_topk
        return replace(given, index_topk=max(1, usual // 4))

    def _watched(
        self, q: Tensor, window: Tensor, rows: Rows | None, selection: Selection | None, scores: Tensor | None,
        group: Group,
    ) -> tuple[Tensor, tuple[Mass, ...]]:  # fmt: skip
        """Heads [S, H, K] of queries q [S, H, K], and the mass on entries; at least FP32 between."""
        S, H, _ = q.shape
        given, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
        q, window = q.to(wide), window.to(wide)
        token = torch.arange(group.first, group.first + S, device=q.device)
        scale, length = self.width**-0.5, len(window)
        age = token.view(S, 1) - torch.arange(group.first + S - length, group.first + S, device=q.device)
        near = torch.einsum("shk,nk->shn", q, window) * scale
        near = near.masked_fill(((age < 0) | (age >= self.window)).unsqueeze(1), -torch.inf)
        sink = self.attn_sink.to(q.dtype).view(1, H, 1).expand(S, H, 1)
        complete = 0 if rows is None else rows.length
        far, values, index = q.new_empty(S, H, 0), q.new_empty(0, q.shape[2]), None
        if rows is not None and selection is not None and complete:
            index = self._index(selection, token, complete)
            values = rows.tile(0, complete)[0] if index is None else rows.gather(index.clamp_min(0).unsqueeze(0))[0]
            values = values.to(wide)
            seen = (
                torch.arange(complete, device=q.device) < ((token + 1) // self.ratio).view(S, 1)
                if index is None else index >= 0
            )  # fmt: skip
            far = torch.einsum("shk,nk->shn" if index is None else "shk,snk->shn", q, values) * scale
            far = far * self.watch.repair.factor(group.first)
            if isinstance(selection, Causal):
                far = selection.shifted(far)
            far = far.masked_fill(~seen.unsqueeze(1), -torch.inf)
        p = torch.cat((near, far, sink), dim=-1).softmax(dim=-1)
        p_near, p_far = p[..., :length], p[..., length:-1]
        out = torch.einsum("shn,nk->shk", p_near, window)
        out = out + torch.einsum("shn,nk->shk" if values.dim() == 2 else "shn,snk->shk", p_far, values)
        if self.watch.noting:
            self.watch.looks.append(self._look(p_far, index, scores, complete, token, p_near.sum(-1), p[..., -1]))
        masses = (Mass(self.ratio, p_far.sum(1).unsqueeze(0), None if index is None else index.unsqueeze(0)),)
        return out.to(given), masses if p_far.shape[-1] else ()

    def _index(self, selection: Selection, token: Tensor, complete: int) -> Tensor | None:
        """Entries [S, n] that queries look at, -1 for none; None for all that are complete."""
        picks = self.watch.repair.picks if self.ratio == CSA_RATIO else None
        every = torch.arange(complete, device=token.device)
        if isinstance(selection, Causal):
            if picks in (None, EvidencePicks.ADDED):
                return None
            index = every.expand(len(token), -1)
            index = index.masked_fill(index >= ((token + 1) // self.ratio).unsqueeze(1), -1)
        elif isinstance(selection, Picked):
            index = selection.index[0]
        else:
            marked = selection.of(slice(None))[0]
            index = every.expand_as(marked).masked_fill(~marked, -1)
        if picks is None:
            return index
        wanted = self._evidence(complete, token)
        if picks is EvidencePicks.ALONE:
            return wanted
        if picks is EvidencePicks.THINNED:
            index = index.masked_fill((index * _MULTIPLIER) % _PRIME % 4 != 0, -1)
        known = (wanted.unsqueeze(2) == index.unsqueeze(1)).any(2)
        return torch.cat((index, wanted.masked_fill(known, -1)), dim=1)

    def _evidence(self, complete: int, token: Tensor) -> Tensor:
        """The entries that hold evidence, [S, n], -1 where a query cannot see them yet."""
        ranges = [entry_range(span, self.ratio, complete) for span in self.watch.spans]
        found = torch.tensor(sorted({n for first, stop in ranges for n in range(first, stop)}), device=token.device)
        every = found.long().expand(len(token), -1)
        return every.masked_fill(every >= ((token + 1) // self.ratio).unsqueeze(1), -1)

    def _look(
        self, p: Tensor, index: Tensor | None, scores: Tensor | None, complete: int, token: Tensor, window: Tensor,
        sink: Tensor,
    ) -> LayerLook:  # fmt: skip
        """`p` [S, H, n] of the entries `index` (None: all)."""
        S, H, n = p.shape
        number = torch.arange(n, device=p.device).expand(S, n) if index is None else index
        visible = ((token + 1) // max(1, self.ratio)).unsqueeze(1)  # ratio 0: there are no entries
        ranges = [entry_range(span, self.ratio, complete) for span in self.watch.spans] if self.ratio else []
        inside = [(number >= first) & (number < stop) & (number < visible) for first, stop in ranges]
        spans = [(p * one.unsqueeze(1)).sum(-1) for one in inside]
        anywhere = torch.stack(inside).any(0) if inside else torch.zeros_like(number, dtype=torch.bool)
        shares = p / p.sum(-1, keepdim=True).clamp_min(1e-30)
        entropy = -(shares * shares.clamp_min(1e-30).log2()).sum(-1)
        marks: dict[str, Any] = {"picked": None, "rank": None}
        if scores is not None and ranges:
            hidden = torch.arange(complete, device=p.device) >= visible
            marks = {
                "picked": torch.stack(
                    [one.sum(1) / max(1, stop - first) for one, (first, stop) in zip(inside, ranges, strict=True)], 1
                ),
                "rank": torch.stack([_rank(scores.masked_fill(hidden, -torch.inf), *one) for one in ranges], 1),
            }
        return LayerLook(
            layer=self.layer, ratio=self.ratio, entries=complete, **marks,
            spans=torch.stack(spans, -1) if spans else p.new_zeros(S, H, len(self.watch.spans)),
            others=(p * ~anywhere.unsqueeze(1)).sum(-1), window=window, sink=sink, entropy=entropy,
        )  # fmt: skip


def _rank(scores: Tensor, first: int, stop: int) -> Tensor:
    """Place of the best of entries first .. stop - 1 among all, from 1, int64 [S]; C + 1 for none. scores [S, C]."""
    if first == stop:
        return torch.full((len(scores),), scores.shape[1] + 1, device=scores.device)
    best = scores[:, first:stop].max(1, keepdim=True).values
    return (scores > best).sum(1) + 1
