"""Manifold-constrained hyper-connections: M residual streams mixed by a doubly stochastic matrix.

Contract (report section on mHC; M streams of width D, at least FP32 inside):
`mix(streams [T, M, D], fn [M*(2+M), M*D], base [M*(2+M)], scale [3], *, iters, eps, norm_eps)
-> (pre [T, M], post [T, M], comb [T, M, M])`; `comb` is the Sinkhorn-normalised matrix (columns last).
`read(streams, pre) -> x [T, D]` = sum_j pre_j h_j in the streams' dtype.
`write(streams, y [T, D], post, comb) -> [T, M, D]`: h'_k = post_k y + sum_j comb[j, k] h_j, one rounding.
`enter(streams, fn, base, scale, gain [D], *, iters, eps, norm_eps) -> (x [T, D], post, comb)`: `mix`, `read` and the
RMS norm with `gain` of what was read: how a sublayer begins.
`begin(streams, pack, ...) -> (streams, x, post, comb)`: the same, weights in a pack, and before it the streams for the
write behind the sublayer: to go on with those saves a pass when gradients are taken.
`cross(streams, y, post, comb, pack, ...) -> (streams, x, post, comb)`: `write`, then `begin` of what was written.
`merge(streams, fn [M, M*D], base [M], scale [1], *, eps, norm_eps) -> x [T, D]`: the head's weighted sum, no Sinkhorn.
`finish(streams, pack, *, eps, norm_eps) -> x [T, D]`: `merge` and the RMS norm of it; the pack holds fn, base, scale
and the norm's gain.
T = 0 gives empty results. Nothing is in place.

Bodies of `begin`, `cross`, `finish`, `write` and `merge`: loops (CPU, FP32, no gradient), `triton_backward` (training
on a GPU; 1, 2 or 4 streams of up to 16,384 channels, everything BF16 or FP32), `ref` for everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.hyper import few, ref
from octavo.kernels.hyper.ref import enter, mix, read
from octavo.kernels.pack import Pack
from octavo.kernels.rmsnorm import rmsnorm

_TRITON_DTYPES, _TRITON_STREAMS, _TRITON_WIDTH = (torch.bfloat16, torch.float32), (1, 2, 4), 16_384


def begin(
    streams: Tensor, pack: Pack, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]):
        arrays = pack.arrays()
        if arrays is not None:
            return streams, *few.begin(streams, arrays, iters=iters, eps=eps, norm_eps=norm_eps)
    weights = pack.tensors()
    if _in_triton(streams, *weights):
        from octavo.kernels.hyper import triton_backward  # there where a GPU is

        given = streams.contiguous(), *weights
        return triton_backward.begin(*given, iters=iters, eps=eps, norm_eps=norm_eps)
    return streams, *enter(streams, *weights, iters=iters, eps=eps, norm_eps=norm_eps)


def cross(
    streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, pack: Pack, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]) and y.dtype == streams.dtype:
        arrays = pack.arrays()
        if arrays is not None:
            return few.cross(streams, y, post, comb, arrays, iters=iters, eps=eps, norm_eps=norm_eps)
    weights = pack.tensors()
    if _in_triton(streams, y, *weights) and post.dtype == comb.dtype == torch.float32:
        from octavo.kernels.hyper import triton_backward  # there where a GPU is

        written = [t.contiguous() for t in (streams, y, post, comb)]
        return triton_backward.cross(*written, *weights, iters=iters, eps=eps, norm_eps=norm_eps)
    after = write(streams, y, post, comb)
    return begin(after, pack, iters=iters, eps=eps, norm_eps=norm_eps)


def finish(streams: Tensor, pack: Pack, *, eps: float, norm_eps: float) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]):
        arrays = pack.arrays()
        if arrays is not None:
            return few.finish(streams, arrays, eps=eps, norm_eps=norm_eps)
    fn, base, scale, gain = pack.tensors()
    if _in_triton(streams, fn, base, scale, gain):
        from octavo.kernels.hyper import triton_backward  # there where a GPU is

        return triton_backward.merge(streams.contiguous(), fn, base, scale, gain, eps=eps, norm_eps=norm_eps)
    return rmsnorm(ref.merge(streams, fn, base, scale, eps=eps, norm_eps=norm_eps), gain, norm_eps)


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    if _in_triton(streams, y) and post.dtype == comb.dtype == torch.float32:
        from octavo.kernels.hyper import triton_backward  # there where a GPU is

        return triton_backward.write(*[t.contiguous() for t in (streams, y, post, comb)])
    return ref.write(streams, y, post, comb)


def merge(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, *, eps: float, norm_eps: float) -> Tensor:
    """See the package docstring for the contract."""
    if _in_triton(streams, fn, base, scale):
        from octavo.kernels.hyper import triton_backward  # there where a GPU is

        return triton_backward.merge(streams.contiguous(), fn, base, scale, None, eps=eps, norm_eps=norm_eps)
    return ref.merge(streams, fn, base, scale, eps=eps, norm_eps=norm_eps)


def _in_triton(streams: Tensor, *others: Tensor) -> bool:
    """Whether the Triton bodies run: while training on a GPU, for shapes and dtypes that they take."""
    if not dispatch.trains_in_triton(streams, "hyper"):
        return False
    M, D = streams.shape[1:]
    fits = M in _TRITON_STREAMS and 1 <= D <= _TRITON_WIDTH
    return fits and all(t.dtype in _TRITON_DTYPES for t in (streams, *others))


__all__ = ["begin", "cross", "enter", "finish", "merge", "mix", "read", "write"]
