"""Engram: hashed n-gram addresses, table rows, and the gate.

Contract (Engram paper, arXiv 2601.07372, and its released demo):
`plan_hash(layer, ...)` fixes multipliers, prime moduli and offsets of one layer.
`row_ids(context [T, N] int64, plan) -> [T, (N-1)*heads] int64`; context[t] holds the compressed ids of tokens t, t-1,
.. t-N+1 (missing ones already replaced by the pad's id).
`gather(table [R, d], ids [T, n]) -> [T, n*d]`.
`gate(streams [T, M, D], keys [T, M, D], q_weight [M, D], k_weight [M, D], eps) -> [T, M]`, at least FP32:
sigmoid(sgn(s) sqrt(max(|s|, 1e-6))), s the product of the two normalised vectors over sqrt(D).
`recall(streams [T, M, D], both [T, (M + 1) D], q_weight, k_weight, eps) -> [T, M, D]`: to every stream its gate times
the value is added; `both` holds the keys of all streams, then the value.
T = 0 gives empty results. Not in place.

Bodies: plain operations, `loops` for a handful of tokens on the CPU, and `triton` while training on a GPU: `row_ids`,
`gate` and `recall` (BF16, FP16 or FP32, D up to 16,384), and `gather`'s gradient, summed in FP32 by atomic additions,
so that its last bits may change from run to run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.engram_lookup import hashing, loops, ref
from octavo.kernels.engram_lookup.hashing import HashPlan, plan_hash

_TRITON_DTYPES, _TRITON_WIDTH = (torch.bfloat16, torch.float16, torch.float32), 16_384


def row_ids(context: Tensor, plan: HashPlan) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.trains_in_triton(context, "engram_lookup"):
        from octavo.kernels.engram_lookup import triton  # there where a GPU is

        return triton.row_ids(context, plan)
    few = dispatch.loops_on_cpu(context, tokens=context.shape[0], of=torch.int64)
    return (loops if few else hashing).row_ids(context, plan)


def gather(table: Tensor, ids: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.trains_in_triton(table, "engram_lookup") and table.dtype in _TRITON_DTYPES:
        from octavo.kernels.engram_lookup import triton  # there where a GPU is

        return triton.gather(table, ids)
    return ref.gather(table, ids)


def gate(streams: Tensor, keys: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    given = streams, keys, q_weight, k_weight
    if dispatch.trains_in_triton(streams, "engram_lookup") and _fits_triton(*given):
        from octavo.kernels.engram_lookup import triton  # there where a GPU is

        return triton.gate(*given, eps)
    few = dispatch.loops_on_cpu(streams, tokens=streams.shape[0]) and keys.dtype == q_weight.dtype == streams.dtype
    return (loops if few else ref).gate(streams, keys, q_weight, k_weight, eps)


def recall(streams: Tensor, both: Tensor, q_weight: Tensor, k_weight: Tensor, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    T, M, D = streams.shape
    given = streams, both, q_weight, k_weight
    if dispatch.trains_in_triton(streams, "engram_lookup") and _fits_triton(*given) and M & (M - 1) == 0:
        from octavo.kernels.engram_lookup import triton_recall  # there where a GPU is

        return triton_recall.recall(*given, eps)
    keys, value = both.split((M * D, D), dim=-1)
    return ref.added(streams, gate(streams, keys.view(T, M, D), q_weight, k_weight, eps), value)


def _fits_triton(*given: Tensor) -> bool:
    return all(t.dtype in _TRITON_DTYPES for t in given) and 1 <= given[0].shape[-1] <= _TRITON_WIDTH


__all__ = ["HashPlan", "gate", "gather", "plan_hash", "recall", "row_ids"]
