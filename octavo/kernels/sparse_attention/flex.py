"""Attention of whole sequences while training on a GPU, through torch's FlexAttention.

Covers: sequences without a past whose length is a multiple of 128, in BF16. One fused kernel runs over window rows and
entries side by side, in blocks of 128 x 128 that hold something visible; no score is kept. The sink joins afterwards:
with L = log sum exp of what the kernel saw, the output shrinks by sigmoid(L - sink). Picks come as a mask, since at
training lengths masking whole blocks of entries reads less than gathering them. Does not cover: decoding, chunks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.dispatch import fusable
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Causal, Masked, Selection
from octavo.kernels.sparse_attention.mass import mass_of

_BLOCK = 128


def fits(q: Tensor, window_rows: Tensor, *, first: int, selection: Selection | None) -> bool:
    """Whether this body serves the call."""
    S = q.shape[1]
    whole = first == 0 and window_rows.shape[1] == S and S % _BLOCK == 0
    return whole and q.dtype == torch.bfloat16 and isinstance(selection, Causal | Masked | None)


def flex_attention_of_rows(
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
) -> tuple[Tensor, Tensor | None]:
    """See the package docstring for the contract."""
    S = q.shape[1]
    entries = None if rows is None else rows.tile(0, rows.length).to(q.dtype)
    kv = window_rows if entries is None else torch.cat((window_rows, entries), dim=1)
    kv = kv.unsqueeze(1)
    mask = block_mask(S, kv.shape[2] - S, window, selection, q.device)
    shift = _shift(S, selection, q.shape[0])
    o, reach = _compiled()(q, kv, mask, scale, shift) if q.is_cuda else _run(q, kv, mask, scale, shift)
    out, total = _with_sink(o, reach, sink)
    if not mass_every or rows is None or selection is None:
        return out, None
    return out, mass_of(q, rows, selection, total, first=first, scale=scale, every=mass_every)


@fusable
def _with_sink(o: Tensor, reach: Tensor, sink: Tensor) -> tuple[Tensor, Tensor]:
    """o [B, H, S, K] and log sums [B, H, S] without the sink -> o [B, S, H, K] and log sums [B, S, H] with it."""
    level = sink.to(reach.dtype).view(1, -1, 1)
    out = o.float() * torch.sigmoid(reach - level).unsqueeze(-1)
    return out.to(o.dtype).transpose(1, 2).contiguous(), torch.logaddexp(reach, level).transpose(1, 2).contiguous()


def _shift(S: int, selection: Selection | None, rows: int) -> Any:
    """FlexAttention's change of scores for entries with an offset, None without."""
    if not isinstance(selection, Causal) or selection.offset is None:
        return None
    offset = selection.offset.float().expand(rows)

    def shift(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.where(j >= S, score + offset[b], score)

    return shift


def _run(q: Tensor, kv: Tensor, mask: Any, scale: float, shift: Any) -> tuple[Tensor, Tensor]:
    """Output [B, H, S, K] and log sums [B, H, S] of q [B, S, H, K] over kv [B, 1, N, K]."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    o, aux = flex_attention(
        q.transpose(1, 2),
        kv,
        kv,
        score_mod=shift,
        block_mask=mask,
        scale=scale,
        enable_gqa=True,
        return_aux=AuxRequest(lse=True),
    )
    assert aux.lse is not None
    return o, aux.lse


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(_run, dynamic=False)


def block_mask(S: int, C: int, window: int, selection: Selection | None, device: torch.device) -> Any:
    """FlexAttention's mask over S window rows followed by C entries."""
    from torch.nn.attention.flex_attention import BlockMask

    ratio = selection.ratio if isinstance(selection, Causal) else 0
    parts, full = _blocks(S, C, window, ratio, device)
    if isinstance(selection, Masked):
        seen, last = selection.seen, C - 1

        def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            entry = (j - S).clamp(0, last)
            return ((j <= i) & (i - j < window)) | ((j >= S) & seen[b, i, entry])
    else:

        def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            near = (j <= i) & (i - j < window)
            return near | ((j >= S) & (j - S < (i + 1) // ratio)) if ratio else near

    return BlockMask.from_kv_blocks(*parts, *full, BLOCK_SIZE=_BLOCK, mask_mod=visible, seq_lengths=(S, S + C))


Blocks = tuple[Tensor, Tensor]


@lru_cache(maxsize=64)
def _blocks(S: int, C: int, window: int, ratio: int, device: torch.device) -> tuple[Blocks, Blocks]:
    """Numbers and indices of the key blocks that each block of queries sees in part, and of those it sees whole.

    ratio 0: every block of entries is seen in part (a mask decides).
    """
    parts, whole = [], []
    per_token = ratio or max(1, S // max(C, 1))
    for start in range(0, S, _BLOCK):
        stop = start + _BLOCK
        near = list(range(max(0, start - window + 1) // _BLOCK, start // _BLOCK + 1))
        seen = range(-(-min(stop // per_token, C) // _BLOCK))
        full = [e for e in seen if ratio and (e + 1) * _BLOCK <= min((start + 1) // ratio, C)]
        parts.append(near + [S // _BLOCK + e for e in seen if e not in full])
        whole.append([S // _BLOCK + e for e in full])
    return _padded(parts, S, C, device), _padded(whole, S, C, device)


def _padded(lists: list[list[int]], S: int, C: int, device: torch.device) -> Blocks:
    table = np.zeros((1, 1, len(lists), -(-(S + C) // _BLOCK)), dtype=np.int32)
    for row, blocks in enumerate(lists):
        table[0, 0, row, : len(blocks)] = blocks
    counts = np.array([[[len(blocks) for blocks in lists]]], dtype=np.int32)
    return torch.from_numpy(counts).to(device), torch.from_numpy(table).to(device)
