"""The first of two levels: keys in four bits, scored by a query's heads folded into one.

Covers: `folded_topk`, the choice among its bodies, and the body in torch, whose formulas are those of scan_fold.h.
A query's folded heads are u = sum_i w_i p_i q_i, with p_i the share of the best keys of a sample that have
q_i . key > 0, and u . key is the folded score of a key. u is rounded to bytes and keys to numbers from -7 to 7 times a
scale, so that products are whole numbers, which FP32 holds exactly: all bodies choose the same keys. The sample is up
to 64 groups of 16 keys, at equal distances among all complete groups that a query sees; its best are 32, and those that
tie with them.
Does not cover: what is chosen among the entries of the chosen keys (`levels`), gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels.index_topk import scan
from octavo.kernels.index_topk.streaming import stable_topk
from octavo.kernels.rows import Rows

_GROUP, _SAMPLE, _BEST = 16, 64, 32
_KEY_MOST, _QUERY_MOST = 7, 127
_LEAST = 1e-30  # smaller vectors are nothing


def folded_topk(q: Tensor, w: Tensor, coarse: Rows, seen: Tensor, k: int) -> Tensor:
    """q [B, S, I, J], w [B, S, I], seen [S] ascending, on the host -> the numbers [B, S, k] int64, in no particular
    order, of the k best by folded scores among the first seen[s] rows; -1 fills up, and the lower row wins ties."""
    if scan.serves(q) and coarse.length > 0:
        return scan.folded_topk(q, w, coarse, seen.numpy(), k)
    picks = torch.full((*q.shape[:2], k), -1, dtype=torch.int64, device=q.device)
    with torch.no_grad():
        rows = coarse.tile(0, int(seen[-1])).float()
        numbers, scale = _rounded(rows, _KEY_MOST)
        for n in seen.unique().tolist():
            if n == 0:
                continue
            some = (seen == n).nonzero().flatten().to(q.device)
            folded = _fold(q[:, some].float(), w[:, some].float(), numbers[:, :n], scale[:, :n])
            values = _rounded(folded, _QUERY_MOST)[0] @ numbers[:, :n].mT * scale[:, :n].mT
            best = min(k, n)
            picks[:, some, :best] = stable_topk(values, best)
    return picks


def _rounded(values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Whole numbers from -most to most and their scales [..., 1]; vectors that are not finite, or nothing, become 0."""
    top = values.abs().amax(-1, keepdim=True)
    whole = top.isfinite() & (top >= _LEAST)
    inverse = torch.where(whole, most / top, 0.0)
    return torch.where(whole, (values * inverse).round(), 0.0), torch.where(whole, top / most, 0.0)


def _fold(q: Tensor, w: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
    """Folded heads [B, S, J] of queries that see all keys [B, n, J], by the sample of these."""
    groups = numbers.shape[1] // _GROUP
    shares = torch.ones_like(w)
    if groups:
        apart = -(-groups // _SAMPLE)
        place = torch.arange(0, groups, apart, device=q.device).unsqueeze(1) * _GROUP
        place = (place + torch.arange(_GROUP, device=q.device)).flatten()
        heads, sizes = _rounded(q, _QUERY_MOST)
        products = heads @ numbers[:, place].mT.unsqueeze(1)  # [B, S, I, n]
        scores = torch.zeros_like(products[:, :, 0])
        for i in range(q.shape[2]):
            scores = scores + (w[:, :, i] * sizes[:, :, i, 0]).unsqueeze(-1) * products[:, :, i].relu()
        scores = scores * scale[:, place].mT
        least = scores.topk(min(_BEST, len(place)), -1).values[..., -1:]
        best = scores >= least
        if len(place) <= _BEST:
            best = torch.ones_like(best)
        active = ((products > 0) & best.unsqueeze(2)).sum(-1)
        shares = active / best.sum(-1, keepdim=True)
    folded = torch.zeros_like(q[:, :, 0])
    for i in range(q.shape[2]):
        folded = folded + (w[:, :, i] * shares[:, :, i]).unsqueeze(-1) * q[:, :, i]
    return folded
