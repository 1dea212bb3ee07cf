"""Drafts on a GPU: the predictor's stage as captured steps, its drafts handed on without the host.

Covers: `Drafts`, the rings of window rows and one captured proposal for each number of rows and drafts, and
`GpuDrafter`, the `Proposer` of one answer. A proposal is one graph: the rows of what was accepted, then draft after
draft, each the likeliest token of the one before; the host reads them all at its end. Does not cover: the stage
(`octavo.model.gpu.stage`), verifying (`octavo.engine.speculative`).

Rows in a ring are numbered from the first one that an answer gave, `born`, so that none before it is seen; angles are
those of the tokens' own positions. Rows of drafts are cut by writing over them: a ring is long enough for the window
before the newest row, and for a window or the most drafts behind it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.slots import power_of_two
from octavo.engine.gpu.replay import Captures, Replay, Staging
from octavo.engine.request import MAX_DRAFT
from octavo.kernels.paged import Places, Ring
from octavo.model.gpu.stage import GpuStage

_FEW = 1 + MAX_DRAFT  # rows of a proposal that is captured: a token and the drafts before it, all accepted
_FOLLOWING, _SLOT, _NUMBER, _POSITION = range(4)  # rows of a proposal's input


class _Prepared:
    """One proposal: the buffers that it reads, the drafts that it leaves, its launches."""

    def __init__(self, inputs: Tensor, streams: Tensor, drafts: Tensor) -> None:
        self.inputs, self.streams, self.drafts = inputs, streams, drafts
        self.staging = Staging(inputs.shape[0], inputs.shape[1], inputs.device)
        self.replay: Replay


class Drafts:
    """Proposals of `stage` for up to `count` answers at a time. Not safe for use from several threads at once."""

    def __init__(self, stage: GpuStage, layout: CacheLayout, *, count: int, device: torch.device) -> None:
        self.stage, self.window, self._device = stage, layout.config.sliding_window, device
        length = power_of_two(self.window - 1 + max(self.window, _FEW))
        with torch.inference_mode(False):  # tensors made in inference mode could be written nowhere else
            rows = torch.zeros(count, length, layout.window_row_bytes, dtype=torch.uint8, device=device)
        self._ring = Ring(rows)
        self._users: dict[int, weakref.ref[GpuDrafter] | None] = dict.fromkeys(range(count))  # longest ago first
        self._prepared: dict[tuple[int, int], _Prepared] = {}
        self._captures = Captures.on(device)

    def __len__(self) -> int:
        """Different proposals met so far."""
        return len(self._prepared)

    @property
    def nbytes(self) -> int:
        """Bytes of the rings."""
        return self._ring.rows.nbytes

    def slot_of(self, drafter: GpuDrafter) -> int:
        """The ring of this answer: the one it has, or the one used longest ago, whose answer begins again."""
        own = drafter.slot
        if own is None:
            own = next(iter(self._users))
            of = self._users[own]
            user = None if of is None else of()
            if user is not None:
                user.slot = None
        self._users.pop(own)
        self._users[own] = weakref.ref(drafter)
        return own

    @torch.inference_mode()
    def propose(
        self, streams: Tensor, following: Sequence[int], *, slot: int, number: int, position: int, count: int
    ) -> list[int]:
        """`count` drafts behind the last of `following` [R], R at most the window; `streams` [R, M, D] are those of R
        tokens in a row, of which the first is at `position` and has the row `number` of ring `slot`."""
        rows = len(following)
        proposal = self._proposal(rows, count, streams)
        to = proposal.staging.array()
        to[_FOLLOWING, :rows], to[_SLOT] = following, slot
        to[_NUMBER, :rows] = np.arange(number, number + rows)
        to[_POSITION, :rows] = np.arange(position, position + rows)
        to[_FOLLOWING, rows:], to[_NUMBER, rows:], to[_POSITION, rows:] = 0, -1, 0
        proposal.staging.send(proposal.inputs)
        proposal.streams[:rows].copy_(streams)
        proposal.replay()
        return proposal.drafts.tolist() if count else []

    def _proposal(self, rows: int, count: int, streams: Tensor) -> _Prepared:
        """One that is kept where rows are few; else, once an answer, one of its own, filled up with rows that do
        nothing: few lengths are few compilations."""
        if rows > _FEW:
            return self._prepare(power_of_two(rows), rows, count, streams)
        if (rows, count) not in self._prepared:
            self._prepared[rows, count] = self._prepare(rows, rows, count, streams)
        return self._prepared[rows, count]

    def _prepare(self, width: int, rows: int, count: int, like: Tensor) -> _Prepared:
        with torch.inference_mode(False):
            inputs = torch.zeros(4, width, dtype=torch.int64, device=self._device)
            streams = torch.zeros(width, *like.shape[1:], dtype=like.dtype, device=self._device)
            drafts = torch.zeros(count, dtype=torch.int64, device=self._device)
        made, stage, ring = _Prepared(inputs, streams, drafts), self.stage, self._ring

        def run() -> None:
            places = Places(inputs[_SLOT].int(), inputs[_NUMBER].int())
            newest = stage.advance(streams, inputs[_FOLLOWING], ring, places, inputs[_POSITION])[rows - 1 : rows]
            last = inputs[:, rows - 1 : rows]
            for at in range(count):
                token = stage.logits(newest).argmax(-1)
                drafts[at : at + 1].copy_(token)
                if at + 1 < count:
                    behind = last + (at + 1)
                    places = Places(last[_SLOT].int(), behind[_NUMBER].int())
                    newest = stage.advance(newest, token, ring, places, behind[_POSITION])

        made.replay = Replay(run, self._captures)
        return made

    def reaches(self, number: int, high: int) -> bool:
        """Whether the window before row `number` is there, rows up to `high` having been written."""
        return max(0, number - (self.window - 1)) >= high - self._ring.length


class GpuDrafter:
    """The `Proposer` of one answer. What it has in a ring may go to another answer, or be further back than the ring
    reaches: then it begins again with the rows that it is given."""

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts
        self.slot: int | None = None
        self._born = self._end = self._high = 0  # tokens: the first with a row, behind the last, behind the last draft

    def propose(self, streams: Tensor, following: Sequence[int], *, first: int, count: int) -> list[int]:
        """As `Proposer.propose`."""
        skipped = max(len(following) - self._drafts.window, 0)
        begin, end = first + skipped, first + len(following)
        there = self.slot is not None and self._born < begin <= self._end
        if not there or not self._drafts.reaches(begin - self._born, self._high - self._born):
            self._born = self._high = begin
        self.slot = self._drafts.slot_of(self)
        self._high = max(self._high, end + max(count - 1, 0))
        drafts = self._drafts.propose(
            streams[skipped:], following[skipped:], slot=self.slot, number=begin - self._born, position=begin,
            count=count,
        )  # fmt: skip
        self._end = end
        return drafts
