"""Chunked cross entropy in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from octavo.kernels.dispatch import fusable, recomputed


def _chunk(x: Tensor, head: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return _loss(F.linear(x, head.to(x.dtype)), targets, weights)


@fusable
def _loss(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    wide = logits.float()
    own = wide.gather(1, targets.unsqueeze(1)).squeeze(1)
    loss = (wide.logsumexp(-1) - own) * weights
    return loss.sum(), wide.detach().argmax(-1) == targets


def cross_entropy(
    x: Tensor, head: Tensor, targets: Tensor, weights: Tensor, *, chunk: int = 32_768
) -> tuple[Tensor, Tensor]:
    """See the package docstring for the contract."""
    total = torch.zeros((), dtype=torch.float32, device=x.device)
    hits = []
    for start in range(0, x.shape[0], chunk):
        part = slice(start, start + chunk)
        loss, hit = checkpoint(
            _chunk, x[part], head, targets[part], weights[part], use_reentrant=False, context_fn=recomputed
        )
        total = total + loss
        hits.append(hit)
    correct = torch.cat(hits) if hits else torch.zeros(0, dtype=torch.bool, device=x.device)
    return total, correct
