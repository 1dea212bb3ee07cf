"""Manifold-constrained hyper-connections: M residual streams mixed by a doubly stochastic matrix.

Contract (report section on mHC; M streams of width D, at least FP32 inside):
`mix(streams [T, M, D], fn [M*(2+M), M*D], base [M*(2+M)], scale [3], *, iters, eps, norm_eps)
-> (pre [T, M], post [T, M], comb [T, M, M])`; `comb` is the Sinkhorn-normalised matrix (columns last).
`read(streams, pre) -> x [T, D]` = sum_j pre_j h_j in the streams' dtype.
`write(streams, y [T, D], post, comb) -> [T, M, D]`: h'_k = post_k y + sum_j comb[j, k] h_j, one rounding.
`enter(streams, fn, base, scale, gain [D], *, iters, eps, norm_eps) -> (x [T, D], post, comb)`: `mix`, `read` and the
RMS norm with `gain` of what was read: how a sublayer begins. `begin(streams, pack, ...)`: the same, weights in a pack.
`cross(streams, y, post, comb, pack, ...) -> (streams, x, post, comb)`: `write`, then `begin` of what was written.
`merge(streams, fn [M, M*D], base [M], scale [1], *, eps, norm_eps) -> x [T, D]`: the head's weighted sum, no Sinkhorn.
`finish(streams, pack, *, eps, norm_eps) -> x [T, D]`: `merge` and the RMS norm of it; the pack holds fn, base, scale
and the norm's gain.
T = 0 gives empty results. Nothing is in place.
"""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.hyper import few
from octavo.kernels.hyper.ref import enter, merge, mix, read, write
from octavo.kernels.pack import Pack
from octavo.kernels.rmsnorm import rmsnorm


def begin(
    streams: Tensor, pack: Pack, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]):
        weights = pack.arrays()
        if weights is not None:
            return few.begin(streams, weights, iters=iters, eps=eps, norm_eps=norm_eps)
    return enter(streams, *pack.tensors(), iters=iters, eps=eps, norm_eps=norm_eps)


def cross(
    streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, pack: Pack, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]) and y.dtype == streams.dtype:
        weights = pack.arrays()
        if weights is not None:
            return few.cross(streams, y, post, comb, weights, iters=iters, eps=eps, norm_eps=norm_eps)
    after = write(streams, y, post, comb)
    return after, *begin(after, pack, iters=iters, eps=eps, norm_eps=norm_eps)


def finish(streams: Tensor, pack: Pack, *, eps: float, norm_eps: float) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]):
        weights = pack.arrays()
        if weights is not None:
            return few.finish(streams, weights, eps=eps, norm_eps=norm_eps)
    fn, base, scale, gain = pack.tensors()
    return rmsnorm(merge(streams, fn, base, scale, eps=eps, norm_eps=norm_eps), gain, norm_eps)


__all__ = ["begin", "cross", "enter", "finish", "merge", "mix", "read", "write"]
