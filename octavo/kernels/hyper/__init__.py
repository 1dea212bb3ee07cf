"""Manifold-constrained hyper-connections: M residual streams mixed by a doubly stochastic matrix.

Contract (report section on mHC; M streams of width D, at least FP32 inside):
`mix(streams [T, M, D], fn [M*(2+M), M*D], base [M*(2+M)], scale [3], *, iters, eps, norm_eps)
-> (pre [T, M], post [T, M], comb [T, M, M])`; `comb` is the Sinkhorn-normalised matrix (columns last).
`read(streams, pre) -> x [T, D]` = sum_j pre_j h_j in the streams' dtype.
`write(streams, y [T, D], post, comb) -> [T, M, D]`: h'_k = post_k y + sum_j comb[j, k] h_j, one rounding.
`enter(streams, fn, base, scale, gain [D], *, iters, eps, norm_eps) -> (x [T, D], post, comb)`: `mix`, `read` and the
RMS norm with `gain` of what was read: how a sublayer begins.
`merge(streams, fn [M, M*D], base [M], scale [1], *, eps, norm_eps) -> x [T, D]`: the head's weighted sum, no Sinkhorn.
T = 0 gives empty results. Nothing is in place.
"""

from octavo.kernels.hyper.ref import enter, merge, mix, read, write

__all__ = ["enter", "merge", "mix", "read", "write"]
