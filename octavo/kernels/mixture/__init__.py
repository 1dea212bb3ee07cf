"""A mixture of experts in one operation: choice, chosen experts, shared expert, sum.

Contract: `mixture(x [T, D], pack, *, top, scale, normalise, limit, bias=None [X], table_rows=None [T, A], plain)
-> [T, D]`: `experts` of what `route` chooses (see both) plus the shared expert's `mlp`. `pack` holds the router's
weight, then w1, w3, w2 of the routed experts and of the shared one. `plain` makes the same by single operations; it
runs wherever the loop does not: a handful of FP32 tokens on the CPU without gradients. Pack None: always plain. Not in
place.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.mixture import loops
from octavo.kernels.pack import Pack


def mixture(
    x: Tensor,
    pack: Pack | None,
    *,
    top: int,
    scale: float,
    normalise: bool,
    limit: float | None,
    bias: Tensor | None = None,
    table_rows: Tensor | None = None,
    plain: Callable[[], Tensor],
) -> Tensor:
    """See the package docstring for the contract."""
    if pack is not None and dispatch.loops_on_cpu(x, tokens=x.shape[0]):
        weights = pack.arrays()
        if weights is not None:
            rules = {"top": top, "scale": scale, "normalise": normalise, "limit": limit}
            return loops.mixture(x, weights, bias=bias, table_rows=table_rows, **rules)
    return plain()


__all__ = ["mixture"]
