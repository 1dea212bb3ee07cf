"""Engram: hashed n-gram addresses, table rows, and the gate.

Contract (Engram paper, arXiv 2601.07372, and its released demo):
`plan_hash(layer, ...)` fixes multipliers, prime moduli and offsets of one layer.
`row_ids(context [T, N] int64, plan) -> [T, (N-1)*heads] int64`; context[t] holds the compressed ids of tokens t, t-1,
.. t-N+1 (missing ones already replaced by the pad's id).
`gather(table [R, d], ids [T, n]) -> [T, n*d]`.
`gate(streams [T, M, D], keys [T, M, D], q_weight [M, D], k_weight [M, D], eps) -> [T, M]`, at least FP32:
sigmoid(sgn(s) sqrt(max(|s|, 1e-6))), s the product of the two normalised vectors over sqrt(D).
T = 0 gives empty results. Not in place.

Bodies: plain operations, and `loops` for a handful of tokens on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.engram_lookup import hashing, loops, ref
from octavo.kernels.engram_lookup.hashing import HashPlan, plan_hash
from octavo.kernels.engram_lookup.ref import gather


def row_ids(context: Tensor, plan: HashPlan) -> Tensor:
    """See the package docstring for the contract."""
    few = dispatch.loops_on_cpu(context, tokens=context.shape[0], of=torch.int64)
    return (loops if few else hashing).row_ids(context, plan)


def gate(streams: Tensor, keys: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    few = dispatch.loops_on_cpu(streams, tokens=streams.shape[0]) and keys.dtype == q_weight.dtype == streams.dtype
    return (loops if few else ref).gate(streams, keys, q_weight, k_weight, eps)


__all__ = ["HashPlan", "gate", "gather", "plan_hash", "row_ids"]
