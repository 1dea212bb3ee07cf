"""Routed experts, plain: every token on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels.dispatch import fusable

Rounding = Callable[[Tensor], Tensor]


def keep(x: Tensor) -> Tensor:
    """No rounding."""
    return x


@fusable
def swiglu(gate: Tensor, up: Tensor, limit: float | None) -> Tensor:
    """silu(min(gate, limit)) * clamp(up, -limit, limit); the gate has only the upper clamp (training report)."""
    if limit is not None:
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return F.silu(gate) * up


def experts(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w2: Tensor,
    *,
    chosen: Tensor,
    weights: Tensor,
    limit: float | None,
    round_hidden: Rounding = keep,
) -> Tensor:
    """See the package docstring for the contract."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = []
    for t in range(x.shape[0]):
        total = torch.zeros(x.shape[1], dtype=wide, device=x.device)
        for a in range(chosen.shape[1]):
            e = int(chosen[t, a])
            hidden = swiglu(w1[e].to(x.dtype) @ x[t], w3[e].to(x.dtype) @ x[t], limit) * weights[t, a].to(x.dtype)
            total = total + (w2[e].to(x.dtype) @ round_hidden(hidden)).to(wide)
        rows.append(total)
    return torch.stack(rows) if rows else torch.zeros(x.shape, dtype=wide, device=x.device)
