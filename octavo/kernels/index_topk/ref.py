"""Index scores, and top-k by a full stable sort, of all complete entries or of those within bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.dispatch import fusable
from octavo.kernels.rows import Rows
from octavo.kernels.selection import Bounds

_ELEMENTS = 1 << 26  # scores held at once where they are bounded


def _wide(x: Tensor, q: Tensor) -> Tensor:
    """`x` in FP64 for queries in FP64, else in FP32: keys come as the cache stores them."""
    return x.double() if q.dtype == torch.float64 else x.float()


def index_scores(q: Tensor, w: Tensor, keys: Tensor) -> Tensor:
    """sum_i w_i relu(q_i . key), [B, S, n]."""
    B, S, I, J = q.shape
    n = keys.shape[1]
    if dispatch.trains_on_gpu(q):
        return _scores_by_head(q, w, keys)
    dots = torch.matmul(_wide(q, q).reshape(B, S * I, J), _wide(keys, q).transpose(1, 2)).relu()
    return torch.matmul(_wide(w, q).reshape(B * S, 1, I), dots.view(B * S, I, n)).view(B, S, n)


@fusable
def _scores_by_head(q: Tensor, w: Tensor, keys: Tensor) -> Tensor:
    """One head after the other, so that no product of all heads is kept."""
    total = torch.zeros((), dtype=torch.float32, device=q.device)
    for i in range(q.shape[2]):
        dots = torch.matmul(_wide(q[:, :, i], q), _wide(keys, q).transpose(1, 2)).relu()
        total = total + _wide(w[:, :, i : i + 1], q) * dots
    return total


def gathered_scores(q: Tensor, w: Tensor, keys: Tensor) -> Tensor:
    """The same for keys [B, S, k, J] chosen per query, [B, S, k]."""
    dots = torch.matmul(_wide(q, q), _wide(keys, q).transpose(2, 3)).relu()
    return torch.matmul(_wide(w, q).unsqueeze(2), dots).squeeze(2)


def visible_counts(first: int, S: int, ratio: int, device: torch.device) -> Tensor:
    """Number of complete entries each of S queries may see, [S]."""
    return torch.div(torch.arange(first + 1, first + S + 1, device=device), ratio, rounding_mode="floor")


@torch.no_grad()
def reference_topk(q: Tensor, w: Tensor, keys: Rows, *, first: int, ratio: int, k: int) -> Tensor:
    """Whole score matrix and a stable sort."""
    B, S = q.shape[:2]
    scores = index_scores(q, w, keys.tile(0, keys.length))
    entry = torch.arange(keys.length, device=q.device)
    scores = scores.masked_fill(entry >= visible_counts(first, S, ratio, q.device).view(1, S, 1), -torch.inf)
    return _best(scores, k)


@torch.no_grad()
def bounded_topk(q: Tensor, w: Tensor, keys: Rows, bounds: Bounds, *, k: int) -> Tensor:
    """As `reference_topk` among the entries within `bounds`, some queries at a time."""
    (B, S), C = q.shape[:2], keys.length
    block, every = max(1, _ELEMENTS // max(1, B * C)), keys.tile(0, C)
    parts = []
    for start in range(0, S, block):
        some = slice(start, start + block)
        scores = index_scores(q[:, some], w[:, some], every)
        parts.append(_best(scores.masked_fill(~bounds.of(some).marks(C), -torch.inf), k))
    return torch.cat(parts, dim=1)


def _best(scores: Tensor, k: int) -> Tensor:
    """Entries [B, S, k] of the best scores, -1 where there are no more that are seen."""
    ranked = scores.sort(dim=-1, descending=True, stable=True)
    picks = ranked.indices[..., :k].masked_fill(ranked.values[..., :k] == -torch.inf, -1)
    return torch.nn.functional.pad(picks, (0, k - picks.shape[-1]), value=-1)
