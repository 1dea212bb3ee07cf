"""Attention in blocks of queries: window keys by block, entries dense or gathered; differentiable, CPU and GPU.

Covers: bounded memory (`_CPU_ELEMENTS` score elements at a time without gradient on CPU), no repetition over heads. On
a GPU picks among few entries are turned into a mask over all of them, which reads less than the gather would. Does not
cover: online softmax over entries (one block's scores over all its entries are held).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Masked, Picked, Selection

_CPU_ELEMENTS = 1 << 21
_GPU_ELEMENTS = 1 << 31
_MASKED_ENTRIES = 2048  # up to here a masked dense product beats gathering on a GPU
_WINDOW_BLOCK = 64


def tiled_attention(
    q: Tensor,
    window_rows: Tensor,
    sink: Tensor,
    *,
    first: int,
    window: int,
    scale: float,
    rows: Rows | None,
    selection: Selection | None,
    mass_every: int,
    begin: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See the package docstring for the contract."""
    B, S, H, _ = q.shape
    past = window_rows.shape[1] - S
    block = min(S, 2 * _WINDOW_BLOCK if q.is_cuda else _WINDOW_BLOCK)
    width = block + window - 1
    if rows is not None:
        width += _picked(selection).shape[-1] if isinstance(selection, Picked) else rows.length
    budget = _GPU_ELEMENTS if q.is_cuda else _CPU_ELEMENTS
    step = max(block, budget // (B * H * width) // block * block)
    outs, masses = [], []
    q = q * scale
    start = 0
    while start < S:
        size = min(step, S - start)
        size = size // block * block or size
        lo = start + past - (window - 1)
        keys = window_rows[:, max(lo, 0) : start + past + size]
        piece = _Piece(
            first=first + start, window=window, missing=max(-lo, 0), block=min(block, size),
            begin=None if begin is None else begin[:, start : start + size],
        )  # fmt: skip
        part = _part(selection, start, start + size)
        o, mass = piece.attend(q[:, start : start + size], keys, sink, rows, part, mass_every > 0)
        outs.append(o)
        masses.append(mass)
        start += size
    out = outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)
    if not mass_every or rows is None:
        return out, None
    if isinstance(selection, Causal):
        masses = [F.pad(m, (0, rows.length - m.shape[-1])) for m in masses if m is not None]
    return out, torch.cat([m for m in masses if m is not None], dim=1)[:, mass_every - 1 :: mass_every]


def _part(selection: Selection | None, start: int, stop: int) -> Selection | None:
    """What a run of queries selects."""
    if isinstance(selection, Picked):
        return Picked(selection.index[:, start:stop])
    if isinstance(selection, Causal) and selection.bounds is not None:
        return replace(selection, bounds=selection.bounds.of(slice(start, stop)))
    return Masked(selection.seen[:, start:stop]) if isinstance(selection, Masked) else selection


def _picked(selection: Selection | None) -> Tensor:
    assert isinstance(selection, Picked)
    return selection.index


class _Piece:
    """A run of queries whose window keys are cut into blocks of `block` queries; `missing` rows lie before token 0.
    `begin`: as in the contract, of these queries."""

    def __init__(self, *, first: int, window: int, missing: int, block: int, begin: Tensor | None) -> None:
        self.first, self.window, self.missing, self.block, self.begin = first, window, missing, block, begin

    def attend(
        self, q: Tensor, keys: Tensor, sink: Tensor, rows: Rows | None, selection: Selection | None, want_mass: bool
    ) -> tuple[Tensor, Tensor | None]:
        B, S, H, K = q.shape
        blocks = self._window_keys(keys, S)  # [B * nb, Nw, K]
        nb = S // self.block
        near = torch.matmul(q.reshape(B * nb, self.block * H, K), blocks.transpose(1, 2))
        near = near.view(B, nb, self.block, H, -1) + self._window_bias(q, nb)
        near = near.view(B, S, H, -1)
        top = torch.maximum(near.detach().amax(-1), sink.detach().to(q.dtype))
        far, values, visible = None, None, None
        if rows is not None:
            far, values, visible = self._entry_logits(q, rows, selection)
            if far.shape[-1]:  # a block may lie before the first complete entry
                top = torch.maximum(top, far.detach().amax(-1))
        top = top.unsqueeze(-1)
        near = torch.exp(near - top)
        total = near.sum(-1, keepdim=True) + torch.exp(sink.to(q.dtype).view(1, 1, H, 1) - top)
        o = torch.matmul(near.view(B * nb, self.block * H, -1), blocks).view(B, S, H, K)
        mass = None
        if far is not None and values is not None:
            far = torch.exp(far - top)
            total = total + far.sum(-1, keepdim=True)
            if values.dim() == 4:
                o = o + torch.matmul(far, values)
            else:
                o = o + torch.matmul(far.reshape(B, S * H, -1), values).view(B, S, H, K)
            if want_mass:
                mass = (far.detach() / total.detach()).sum(2)
                if isinstance(selection, Picked) and values.dim() == 3:
                    mass = mass.gather(2, selection.index.clamp_min(0)).masked_fill(selection.index < 0, 0)
        return o / total, mass

    def _window_keys(self, keys: Tensor, S: int) -> Tensor:
        if self.missing:
            keys = F.pad(keys, (0, 0, self.missing, 0))
        spread = keys.unfold(1, self.block + self.window - 1, self.block)  # [B, nb, K, Nw]
        return spread.transpose(2, 3).reshape(-1, self.block + self.window - 1, keys.shape[-1])

    def _window_bias(self, q: Tensor, nb: int) -> Tensor:
        i = torch.arange(self.block, device=q.device).view(1, self.block, 1)
        j = torch.arange(self.block + self.window - 1, device=q.device).view(1, 1, -1)
        seen = (j >= i) & (j <= i + self.window - 1)
        if self.missing:
            start = torch.arange(nb, device=q.device).view(nb, 1, 1) * self.block
            seen = seen & (start + j >= self.missing)
        if self.begin is not None:
            start = torch.arange(nb, device=q.device).view(nb, 1, 1) * self.block
            token = self.first - (self.window - 1) + start + j
            seen = seen & (token >= self.begin.view(-1, nb, self.block, 1))
        bias = torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill(~seen, -torch.inf)
        return bias.unsqueeze(-2)

    def _entry_logits(self, q: Tensor, rows: Rows, selection: Selection | None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits over entries, the entries themselves ([B, C, K] or gathered [B, S, k, K]), and the mask used."""
        B, S, H, K = q.shape
        if isinstance(selection, Picked) and not (q.is_cuda and rows.length <= _MASKED_ENTRIES):
            seen = selection.index >= 0
            values = rows.gather(selection.index.clamp_min(0)).to(q.dtype)
            logits = torch.matmul(q, values.transpose(2, 3))
            return logits.masked_fill(~seen.unsqueeze(2), -torch.inf), values, seen
        if isinstance(selection, Causal) and selection.bounds is not None:
            last, full = min((self.first + S) // selection.ratio, rows.length), False
            seen = selection.bounds.marks(last)
        elif isinstance(selection, Causal):
            visible = torch.arange(self.first + 1, self.first + S + 1, device=q.device) // selection.ratio
            last = min((self.first + S) // selection.ratio, rows.length)
            seen = torch.arange(last, device=q.device).view(1, 1, -1) < visible.view(1, S, 1)
            full = (self.first + 1) // selection.ratio >= last
        elif isinstance(selection, Masked):
            last, full, seen = rows.length, False, selection.seen
        else:
            index = _picked(selection)
            last, full = rows.length, False
            seen = torch.zeros(B, S, last + 1, dtype=torch.bool, device=q.device)
            seen = seen.scatter(2, index.masked_fill(index < 0, last), True)[..., :last]
        values = rows.tile(0, last).to(q.dtype)
        logits = torch.matmul(q.reshape(B, S * H, K), values.transpose(1, 2)).view(B, S, H, -1)
        if isinstance(selection, Causal):
            logits = selection.shifted(logits)
        if not full:
            logits = logits.masked_fill(~seen.unsqueeze(2), -torch.inf)
        return logits, values, seen
