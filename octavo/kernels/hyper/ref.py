"""Hyper-connection mixing in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _logits(streams: Tensor, fn: Tensor, norm_eps: float) -> Tensor:
    """rms-scaled product of all M*D channels with `fn`, [T, outputs]."""
    flat = _wide(streams.flatten(1))
    rho = torch.rsqrt(flat.square().mean(-1, keepdim=True) + norm_eps)
    return F.linear(flat, fn.to(flat.dtype)) * rho


def sinkhorn(logits: Tensor, *, iters: int, eps: float) -> Tensor:
    """Row softmax, then `iters` column steps with row steps between; [T, M, M] -> [T, M, M], columns sum to 1.

    The tokens are kept in the last dimension while iterating, so that each step runs over contiguous memory.
    """
    c = logits.permute(1, 2, 0).softmax(dim=1) + eps
    c = c / (c.sum(0, keepdim=True) + eps)
    for _ in range(iters - 1):
        c = c / (c.sum(1, keepdim=True) + eps)
        c = c / (c.sum(0, keepdim=True) + eps)
    return c.permute(2, 0, 1)


def mix(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    M = streams.shape[1]
    m = _logits(streams, fn, norm_eps)
    base, scale = base.to(m.dtype), scale.to(m.dtype)
    pre = torch.sigmoid(m[:, :M] * scale[0] + base[:M]) + eps
    post = 2 * torch.sigmoid(m[:, M : 2 * M] * scale[1] + base[M : 2 * M])
    comb = sinkhorn((m[:, 2 * M :] * scale[2] + base[2 * M :]).view(-1, M, M), iters=iters, eps=eps)
    return pre, post, comb


def read(streams: Tensor, pre: Tensor) -> Tensor:
    """Weighted sum of the streams, [T, D]."""
    out = torch.bmm(pre.unsqueeze(1), _wide(streams)).squeeze(1)
    return out.to(streams.dtype)


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """post (x) y + comb^T streams, [T, M, D]."""
    kept = torch.bmm(comb.transpose(1, 2), _wide(streams))
    return (kept + post.unsqueeze(-1) * _wide(y).unsqueeze(1)).to(streams.dtype)


def merge(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, *, eps: float, norm_eps: float) -> Tensor:
    """The head's read of the streams, [T, D]."""
    m = _logits(streams, fn, norm_eps)
    return read(streams, torch.sigmoid(m * scale.to(m.dtype) + base.to(m.dtype)) + eps)
