"""Tokens that the multi-token predictor proposes.

Covers: `Proposer`, what decoding asks of one, and `Drafter`, the plain one. Does not cover: verifying drafts
(`speculative`), the one on a GPU (`octavo.engine.gpu.drafts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from octavo.cache.draft import DraftRows
from octavo.cache.layout import CacheLayout
from octavo.cache.view import Group, PastRows, View
from octavo.model.mtp import MTP
from octavo.model.transformer import Transformer


class Proposer(Protocol):
    """Proposes the tokens of one answer with the first stage of the predictor, applied to its own streams for all but
    the first of them.

    It keeps the stage's window rows. Those of accepted tokens are made from the model's streams, as in training; those
    made from its own are cut before the next proposal.
    """

    def propose(self, streams: Tensor, following: Sequence[int], *, first: int, count: int) -> list[int]:
        """`count` tokens that may come after the last of `following` [R].

        `streams` [R, M, D] are the model's of the tokens first .. first + R - 1, which `following` follows one by one;
        rows before them that were not given earlier in one piece are not seen. Count 0: the rows are only kept.
        """
        ...


class Drafter:
    """A `Proposer` that runs the stage as a module."""

    def __init__(self, model: Transformer, layout: CacheLayout, device: torch.device | str = "cpu") -> None:
        """`model` must have MTP blocks."""
        stage = model.mtp[0]
        assert isinstance(stage, MTP)
        self._model, self._stage, self._rows = model, stage, DraftRows(layout, device)

    @torch.inference_mode()
    def propose(self, streams: Tensor, following: Sequence[int], *, first: int, count: int) -> list[int]:
        """As `Proposer.propose`."""
        window = self._model.config.sliding_window
        skipped = max(len(following) - window, 0)
        self._rows.cut(first + skipped)
        streams, drafts = self._advance(streams[skipped:], following[skipped:]), []
        while len(drafts) < count:
            drafts.append(self._likeliest(streams[-1:]))
            if len(drafts) < count:
                streams = self._advance(streams[-1:], drafts[-1:])
        return drafts

    def _advance(self, streams: Tensor, following: Sequence[int]) -> Tensor:
        """The stage's own streams [R, M, D] of the next R tokens."""
        model, first, count, device = self._model, self._rows.end, len(following), streams.device
        ids = torch.tensor(following, device=device)
        past = cast(PastRows, self._rows)  # a block without entries asks for window rows alone
        view = View(
            positions=torch.arange(first, first + count, device=device),
            groups=(Group(start=0, rows=1, length=count, first=first, past=past),),
        )
        after, _ = self._stage.advance(streams, model.embed(ids).to(streams.dtype), ids, view, model.rotary)
        return after

    def _likeliest(self, streams: Tensor) -> int:
        hidden = self._stage.read_out(streams)
        return int(self._model.head(hidden if hidden.dtype == torch.float64 else hidden.float())[0].argmax())
