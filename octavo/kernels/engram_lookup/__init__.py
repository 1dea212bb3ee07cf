"""Engram: hashed n-gram addresses, table rows, and the gate.

Contract (Engram paper, arXiv 2601.07372, and its released demo):
`plan_hash(layer, ...)` fixes multipliers, prime moduli and offsets of one layer.
`row_ids(context [T, N] int64, plan) -> [T, (N-1)*heads] int64`; context[t] holds the compressed ids of tokens t, t-1,
.. t-N+1 (missing ones already replaced by the pad's id).
`gather(table [R, d], ids [T, n]) -> [T, n*d]`.
`gate(streams [T, M, D], keys [T, M, D], q_weight [M, D], k_weight [M, D], eps) -> [T, M]`, at least FP32:
sigmoid(sgn(s) sqrt(max(|s|, 1e-6))), s the product of the two normalised vectors over sqrt(D).
T = 0 gives empty results. Not in place.
"""

from octavo.kernels.engram_lookup.hashing import HashPlan, plan_hash, row_ids
from octavo.kernels.engram_lookup.ref import gate, gather

__all__ = ["HashPlan", "gate", "gather", "plan_hash", "row_ids"]
