"""The linear maps around attention: from a sublayer's input to queries and rows, and from the heads back.

Contract: `project_in(x [T, D], pack, cos [T, P / 2], sin, *, heads, index_heads, eps, plain) -> Inputs`. With R the
rotation of the last P channels and n the RMS norm: latent = n(wq_a x) q_gain, q = R n(wq_b latent) by head,
kv = R (n(wkv x) kv_gain), raw = (wkv x, wgate x) of the main compressor, and of the indexer: its raw rows, queries
Hadamard(R (wq_b latent)) by head, head weights (proj x) (I J)^-1/2. `pack` holds wq_a, q_gain, wq_b, wkv, kv_gain; then
the compressor's wkv, wgate; then the indexer's wq_b, proj, wkv, wgate; a layer without a part ends earlier.
`project_out(o [T, H, K], pack, cos, sin, *, plain) -> [T, D]`: wo_b of wo_a by group of R^-1 o; `pack` holds both.

`plain` makes the same result by single operations. It runs wherever the loop does not: a handful of FP32 tokens on the
CPU without gradients, where one call does what else takes twenty. Pack None: always plain. Not in place.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.pack import Pack
from octavo.kernels.projections import loops
from octavo.kernels.projections.loops import Inputs


def project_in(
    x: Tensor,
    pack: Pack | None,
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    index_heads: int,
    eps: float,
    plain: Callable[[], Inputs],
) -> Inputs:
    """See the package docstring for the contract."""
    if pack is not None and dispatch.loops_on_cpu(x, tokens=x.shape[0]):
        weights = pack.arrays()
        if weights is not None:
            return loops.project_in(x, weights, cos, sin, heads=heads, index_heads=index_heads, eps=eps)
    return plain()


def project_out(o: Tensor, pack: Pack | None, cos: Tensor, sin: Tensor, *, plain: Callable[[], Tensor]) -> Tensor:
    """See the package docstring for the contract."""
    if pack is not None and dispatch.loops_on_cpu(o, tokens=o.shape[0]):
        weights = pack.arrays()
        if weights is not None:
            return loops.project_out(o, weights, cos, sin)
    return plain()


__all__ = ["Inputs", "project_in", "project_out"]
