"""Engram's addresses and gate of a handful of tokens as loops on the CPU: FP32, no gradient."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop
from octavo.kernels.engram_lookup.hashing import HashPlan
from octavo.kernels.linear.loops import dot


def row_ids(context: Tensor, plan: HashPlan) -> Tensor:
    """See the package docstring for the contract."""
    multipliers, moduli, offsets = _numbers(plan)
    out = np.empty((context.shape[0], len(moduli)), dtype=np.int64)
    _row_ids(context.contiguous().numpy(), multipliers, moduli, offsets, plan.heads, out)
    return torch.from_numpy(out)


def gate(streams: Tensor, keys: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    out = np.empty(tuple(streams.shape[:2]), dtype=np.float32)
    given = streams.contiguous().numpy(), keys.contiguous().numpy(), q_weight.numpy(), k_weight.numpy()
    _gate(*given, np.float32(eps), out)
    return torch.from_numpy(out)


@lru_cache(maxsize=64)
def _numbers(plan: HashPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    multipliers, moduli, offsets = (
        np.array(numbers, dtype=np.int64) for numbers in (plan.multipliers, plan.moduli, plan.offsets)
    )
    return multipliers, moduli, offsets


@loop
def _row_ids(context, multipliers, moduli, offsets, heads, out):
    for t in range(len(context)):
        mixed = context[t, 0] * multipliers[0]
        for n in range(1, len(multipliers)):
            mixed ^= context[t, n] * multipliers[n]
            for j in range((n - 1) * heads, n * heads):
                out[t, j] = mixed % moduli[j] + offsets[j]


@loop
def _gate(streams, keys, q_weight, k_weight, eps, out):
    T, M, D = streams.shape
    one, width = np.float32(1.0), np.float32(D)
    for t in range(T):
        for m in range(M):
            q, k, s = streams[t, m], keys[t, m], np.float32(0.0)
            for d in range(D):
                s += q[d] * q_weight[m, d] * (k[d] * k_weight[m, d])
            norms = math.sqrt(dot(q, q) / width + eps) * math.sqrt(dot(k, k) / width + eps)
            s = np.float32(s / (norms * math.sqrt(width)))
            size = np.float32(math.sqrt(max(abs(s), np.float32(1e-6))))
            signed = size if s > 0 else (-size if s < 0 else np.float32(0.0))
            out[t, m] = one / (one + np.float32(math.exp(-signed)))
