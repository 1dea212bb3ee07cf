"""Top-k in two levels: a coarse key for every block of tokens, and only the best blocks' entries scored.

Covers: `two_level_topk`, the contract of `index_topk` but an approximation: a query's entries are chosen among those of
its best blocks and those behind the last border, a multiple of 16 tokens and of a block. A coarse key is the mean of
its block's keys; a block of one entry has that entry's. Blocks are ranked by `folded`: one product in few bits a block,
where an entry takes one a head. Does not cover: training, which chooses among all; which queries choose in two levels
(`octavo.config.levels`).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.config.levels import Levels
from octavo.kernels.compiled import in_halves
from octavo.kernels.index_topk import scan
from octavo.kernels.index_topk.exact import index_topk
from octavo.kernels.index_topk.folded import folded_topk
from octavo.kernels.index_topk.ref import gathered_scores
from octavo.kernels.index_topk.streaming import stable_topk
from octavo.kernels.rows import DenseRows, Rows

_GATHERED = 1 << 22  # numbers of gathered keys held at once
_FEW = 8  # queries for which keys that lie in several places, or not as FP32, are gathered instead of all copied


def two_level_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int, levels: Levels) -> Tensor:
    """See the module docstring; q [B, S, I, J], w [B, S, I] -> entries [B, S, k] int64, -1 fills up."""
    call = {"ratio": ratio, "k": k, "levels": levels}
    if levels.divides(first, first + q.shape[1]):
        n = levels.after - first
        whole = two_level_topk(q[:, :n], w[:, :n], keys, first=first, **call)
        return torch.cat((whole, two_level_topk(q[:, n:], w[:, n:], keys, first=levels.after, **call)), 1)
    S, size = q.shape[1], levels.block // ratio
    if not levels.choose(first + S):
        return index_topk(q, w, keys, first=first, ratio=ratio, k=k)
    above = keys.coarse(size)
    if scan.fits_few(q, keys):
        blocks = {"block": levels.block, "best": levels.best}
        found = scan.few_in_blocks(q, w, keys, above, first=first, ratio=ratio, k=k, **blocks)
        if found is not None:
            return found
    known = torch.tensor([min(levels.known(end), above.length) for end in range(first + 1, first + S + 1)])
    coarse = folded_topk(q, w, above, known, levels.best)
    listed = _with_newest(coarse, known, levels.border // levels.block)
    token = torch.arange(first + 1, first + S + 1, device=q.device)
    seen = (token // ratio).clamp_max(keys.length)
    if scan.serves(q) and S <= _FEW and not keys.together:
        return _listed_apart(q, w, keys, listed, seen, size, k)
    if scan.serves(q):
        return _listed_by_scan(q, w, keys, listed, seen, size, k)
    return _listed_by_gather(q, w, keys, listed, seen, size, k)


def _with_newest(coarse: Tensor, known: Tensor, more: int) -> Tensor:
    """Chosen blocks [B, S, m], -1: none, and behind them the blocks known[s] .. known[s] + more, the last of which may
    hold nothing yet."""
    newest = known.unsqueeze(1) + torch.arange(more + 1)
    return torch.cat((coarse, newest.to(coarse.device).expand(len(coarse), -1, -1)), -1)


def _listed_by_scan(q: Tensor, w: Tensor, keys: Rows, listed: Tensor, seen: Tensor, size: int, k: int) -> Tensor:
    picks = np.full((1, q.shape[1], k), -1, dtype=np.int64)
    places, copied = scan.located(keys, int(seen[-1]))
    given = q[0].contiguous().numpy(), w[0].float().contiguous().numpy(), places
    some = partial(scan.listed, *given, listed[0].contiguous().numpy(), seen.numpy(), size, picks[0])
    in_halves(some, q.shape[1])
    del copied
    return torch.from_numpy(picks)


def _listed_apart(q: Tensor, w: Tensor, keys: Rows, listed: Tensor, seen: Tensor, size: int, k: int) -> Tensor:
    """As `_listed_by_scan`, to the bit, for keys that would have to be copied: those of a query's blocks alone are."""
    S, n = q.shape[1], listed.shape[2]
    picks = np.full((1, S, k), -1, dtype=np.int64)
    blocks, place, inner = listed[0].numpy(), np.arange(n), np.arange(size)
    asked, shares = q[0].contiguous().numpy(), w[0].float().contiguous().numpy()
    for s in range(S):
        own, end = blocks[s], int(seen[s])
        index = np.minimum(np.maximum(own, 0)[:, None] * size + inner, end - 1)
        some = DenseRows(keys.gather(torch.from_numpy(index.reshape(1, 1, -1)))[0].float().contiguous())
        visible = np.array([n * size - max((int(own[-1]) + 1) * size - end, 0)])  # the newest are the last of the list
        found = picks[0, s : s + 1]
        one = slice(s, s + 1)
        there = np.where(own < 0, -1, place)[None]
        places, _ = scan.located(some, n * size)
        scan.listed(asked[one], shares[one], places, there, visible, size, found, 0, 1)
        at = found >= 0
        found[at] = own[found[at] // size] * size + found[at] % size
    return torch.from_numpy(picks)


@torch.no_grad()
def _listed_by_gather(q: Tensor, w: Tensor, keys: Rows, listed: Tensor, seen: Tensor, size: int, k: int) -> Tensor:
    """Some queries at a time: their blocks' keys are gathered and scored."""
    (B, S, n), J = listed.shape, q.shape[3]
    inner = torch.arange(size, device=q.device)
    picks = torch.full((B, S, k), -1, dtype=torch.int64, device=q.device)
    step = max(1, _GATHERED // (B * n * size * J))
    for start in range(0, S, step):
        some = slice(start, start + step)
        index = (listed[:, some].sort(-1).values.unsqueeze(-1) * size + inner).flatten(2)  # ascending: ties go right
        hidden = (index < 0) | (index >= seen[some].view(1, -1, 1))
        scores = gathered_scores(q[:, some], w[:, some], keys.gather(index.masked_fill(hidden, 0)))
        place = stable_topk(scores.masked_fill(hidden, -torch.inf), min(k, index.shape[-1]))
        chosen = index.gather(2, place).masked_fill(hidden.gather(2, place), -1)
        picks[:, some, : chosen.shape[-1]] = chosen
    return picks
