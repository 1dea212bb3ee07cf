"""Engram's read and gate in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels.dispatch import fusable
from octavo.kernels.rmsnorm.ref import rmsnorm


def gather(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of the flat table, concatenated per token: [T, n] -> [T, n * d]."""
    return F.embedding(ids, table).flatten(1)


@fusable
def gate(streams: Tensor, keys: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """Gate per stream, [T, M]; see the package docstring for the formula."""
    wide = torch.float64 if streams.dtype == torch.float64 else torch.float32
    q = rmsnorm(streams.to(wide), q_weight, eps)
    k = rmsnorm(keys.to(wide), k_weight, eps)
    s = (q * k).sum(-1) / streams.shape[-1] ** 0.5
    return torch.sigmoid(torch.sign(s) * s.abs().clamp_min(1e-6).sqrt())


@fusable
def added(streams: Tensor, gates: Tensor, value: Tensor) -> Tensor:
    """Streams [T, M, D] with the value [T, D] added to each by its gate [T, M]."""
    return streams + update(gates, value, streams.dtype)


def update(gates: Tensor, value: Tensor, dtype: torch.dtype) -> Tensor:
    """gates [T, M] times value [T, D], [T, M, D] in `dtype`."""
    return (gates.unsqueeze(-1) * value.unsqueeze(1).to(gates.dtype)).to(dtype)
