"""Gated pooling in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.compress import loops
from octavo.kernels.dispatch import fusable


def place(projected: Tensor, bias: Tensor, *, first: int) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(projected) and bias.dtype == projected.dtype:
        return loops.place(projected, bias, first=first)
    S, ratio = projected.shape[1], bias.shape[0]
    bias, shift = bias.to(projected.dtype), first % ratio
    rows = bias[shift : shift + S]
    if len(rows) < S:  # repeated, not indexed: its gradient is a plain sum
        rows = bias.repeat(-(-(shift + S) // ratio), 1)[shift : shift + S]
    return projected + F.pad(rows, (projected.shape[2] - bias.shape[1], 0))


def pool(values: Tensor, scores: Tensor, *, ratio: int, overlap: bool, has_previous: bool) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(values) and scores.dtype == values.dtype:
        return loops.pool(values, scores, ratio=ratio, overlap=overlap, has_previous=has_previous)
    return plain_pool(values, scores, ratio=ratio, overlap=overlap, has_previous=has_previous)


def pool_placed(
    raw: Tensor, bias: Tensor, *, ratio: int, overlap: bool, has_previous: bool, fresh: Tensor | None = None
) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.trains_on_gpu(raw):
        return _pool_placed(raw, bias, ratio=ratio, overlap=overlap, has_previous=has_previous, fresh=fresh)
    values, scores = place(raw, bias, first=0).split(raw.shape[-1] // 2, dim=-1)
    if fresh is not None:
        return plain_pool(values, scores, ratio=ratio, overlap=overlap, has_previous=has_previous, fresh=fresh)
    return pool(values, scores, ratio=ratio, overlap=overlap, has_previous=has_previous)


@fusable
def _pool_placed(
    raw: Tensor, bias: Tensor, *, ratio: int, overlap: bool, has_previous: bool, fresh: Tensor | None = None
) -> Tensor:
    B, n, both = raw.shape
    values, scores = raw.split(both // 2, dim=-1)
    scores = (scores.view(B, n // ratio, ratio, -1) + bias.to(raw.dtype)).view(B, n, -1)
    return plain_pool(values, scores, ratio=ratio, overlap=overlap, has_previous=has_previous, fresh=fresh)


@fusable
def plain_pool(
    values: Tensor, scores: Tensor, *, ratio: int, overlap: bool, has_previous: bool, fresh: Tensor | None = None
) -> Tensor:
    """See the package docstring for the contract."""
    B, n, w = values.shape
    values, scores = values.view(B, n // ratio, ratio, w), scores.view(B, n // ratio, ratio, w)
    if not overlap:
        return (scores.softmax(dim=2) * values).sum(dim=2)
    K = w // 2
    own_v, own_s = values[..., K:], scores[..., K:]
    prev_v, prev_s = values[..., :K], scores[..., :K]
    if has_previous:
        own_v, own_s = own_v[:, 1:], own_s[:, 1:]
        prev_v, prev_s = prev_v[:, :-1], prev_s[:, :-1]
    else:
        prev_v = torch.cat((torch.zeros_like(prev_v[:, :1]), prev_v[:, :-1]), dim=1)
        prev_s = torch.cat((torch.full_like(prev_s[:, :1], -torch.inf), prev_s[:, :-1]), dim=1)
    if fresh is not None:
        prev_v = prev_v.masked_fill(fresh[..., None, None], 0)
        prev_s = prev_s.masked_fill(fresh[..., None, None], -torch.inf)
    gate = torch.cat((prev_s, own_s), dim=2).softmax(dim=2)
    return (gate * torch.cat((prev_v, own_v), dim=2)).sum(dim=2)
