"""Exact top-k while scores stream by in tiles.

Covers: a running best-k per query, merged with one span of scores at a time; ties go to the lower entry. Does not
cover: a score matrix of the whole context, approximate or two-level selection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.index_topk.ref import index_scores, visible_counts
from octavo.kernels.rows import Rows

_CPU_QUERIES = 64  # queries scored together: with one tile of keys the dot products stay in the second-level cache
_CPU_TILE = 1024
_CPU_SPAN = 8 * _CPU_TILE  # entries between two merges: the selection costs less than the scores then
_GPU_ELEMENTS = 1 << 28  # dot products held at once


_ONE_SPAN = 1 << 19  # entries that one query scores at once


@torch.no_grad()
def streaming_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """See the package docstring for the contract."""
    B, S, I, _ = q.shape
    if S == 1 and 0 < keys.length <= _ONE_SPAN:
        return _one_query(q, w, keys, limit=min((first + 1) // ratio, keys.length), k=k)
    picks = torch.full((B, S, k), -1, dtype=torch.int64, device=q.device)
    if q.is_cuda:
        tile = span = max(1024, min(keys.length, _GPU_ELEMENTS // (B * I * 128)))
        block = max(1, _GPU_ELEMENTS // (B * I * max(1, min(tile, keys.length))))
    else:
        block, tile, span = _CPU_QUERIES, _CPU_TILE, _CPU_SPAN
    for start in range(0, S, block):
        stop = min(start + block, S)
        end = min((first + stop) // ratio, keys.length)
        part = _block_topk(
            q[:, start:stop],
            w[:, start:stop],
            keys,
            first=first + start,
            ratio=ratio,
            k=k,
            end=end,
            tile=tile,
            span=span,
        )
        picks[:, start:stop, : part.shape[-1]] = part
    return picks


def _one_query(q: Tensor, w: Tensor, keys: Rows, *, limit: int, k: int) -> Tensor:
    """The same for a single query, which sees the first `limit` entries."""
    if limit <= k:
        listed = torch.arange(k, device=q.device)
        return listed.masked_fill(listed >= limit, -1).expand(q.shape[0], 1, k)
    return stable_topk(index_scores(q, w, keys.tile(0, limit)), k)


def _block_topk(
    q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int, end: int, tile: int, span: int
) -> Tensor:
    B, S = q.shape[:2]
    best_value = torch.empty(B, S, 0, dtype=torch.float32, device=q.device)
    best_entry = torch.empty(B, S, 0, dtype=torch.int64, device=q.device)
    limit = visible_counts(first, S, ratio, q.device)
    fully_visible = (first + 1) // ratio
    for lo in range(0, end, span):
        hi = min(lo + span, end)
        parts = [index_scores(q, w, keys.tile(a, min(a + tile, hi))) for a in range(lo, hi, tile)]
        scores = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        entry = torch.arange(lo, hi, device=q.device)
        if hi > fully_visible:
            scores = scores.masked_fill(entry >= limit.view(1, S, 1), -torch.inf)
        value = torch.cat((best_value.to(scores.dtype), scores), dim=-1)
        pos = stable_topk(value, min(k, value.shape[-1]))
        kept = best_entry.shape[-1]
        old = best_entry.gather(-1, pos.clamp(max=max(kept - 1, 0))) if kept else pos
        best_entry = torch.where(pos < kept, old, pos - kept + lo)
        best_value = value.gather(-1, pos)
        if hi < end:  # the tie rule of the next merge reads positions as ranks: keep entries ascending
            best_entry, order = best_entry.sort(dim=-1)
            best_value = best_value.gather(-1, order)
    return best_entry.masked_fill(best_value == -torch.inf, -1)


def stable_topk(value: Tensor, k: int) -> Tensor:
    """Positions of the k largest along the last dimension, the lower position winning ties; [..., n] -> [..., k]."""
    n = value.shape[-1]
    if k >= n:
        return torch.arange(n, device=value.device).expand(*value.shape[:-1], n)
    top = value.topk(k, dim=-1, sorted=False)
    threshold = top.values.amin(-1, keepdim=True)
    equal = value == threshold
    taken = (top.values == threshold).sum(-1)
    ambiguous = (equal.sum(-1) > taken) & (threshold.squeeze(-1) > -torch.inf)
    if not bool(ambiguous.any()):
        return top.indices
    rows = value[ambiguous]
    fixed = rows.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    picks = top.indices.clone()
    picks[ambiguous] = fixed
    return picks
