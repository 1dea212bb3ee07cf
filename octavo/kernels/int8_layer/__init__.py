"""A layer's INT8 maps together, so that an input is rounded once and scales are put back on the way.

Contract, with L = `int8_linear`, R the rotation of the last P channels and n the RMS norm, as in `projections`:
`attention_in(x [T, D], large, pack, cos [T, P / 2], sin, *, heads, index_heads, eps, rest) -> Inputs`: `large` are
wq_a, wq_b, wkv; latent = n(L wq_a x) q_gain, q = R n(L wq_b latent) by head, kv = R (n(L wkv x) kv_gain). `pack` holds
q_gain, kv_gain, and what stays FP32: the compressor's wkv, wgate, then the indexer's wq_b, proj, wkv, wgate; a layer
without a part ends earlier. `rest(latent)` makes raw, index_q, index_w, index_raw by single operations, None for a part
that the layer lacks. `attention_out(o [T, H, K], wo_a, wo_b, cos, sin) -> [T, D]`: L wo_b of L wo_a by group of R^-1 o.
`int8_experts(x [T, D], routed, shared, *, chosen [T, A] int64, weights [T, A], limit) -> [T, D]`: the chosen experts
and the shared one, summed, as `experts` and `mlp` say. A pair is w13 [X, 2F, D], gate rows before up rows, and w2 [X,
D, F]; X = 1 for the shared one. An expert's weight is multiplied into the input of w2 before that is rounded.
`int8_mixture(x, gate, routed, shared, *, top, scale, normalise, limit, bias, table_rows, plain) -> [T, D]`: the same of
what `route` chooses; `plain` makes it by single operations.

Large weights are `Int8Weight`; x is FP32. `fits` tells whether the fast bodies run (CPU, no gradient, T from 1): only
then may the maps around attention be called. Not in place.
Bodies: `few`, one loop each, up to 8 tokens, in which a token gets the same bits by itself and among others; `many`,
products and loops between them; `ref` for the experts in reference runs, the model's single operations for the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.int8_layer import few, many, ref
from octavo.kernels.int8_layer.ref import Pair
from octavo.kernels.int8_linear import Int8Weight
from octavo.kernels.pack import Pack
from octavo.kernels.projections import Inputs

Rest = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
_LARGE = 1 << 22  # codes in the weights that a token reads from which products, shared out among threads, are faster


def fits(x: Tensor) -> bool:
    """Whether the fast bodies run for x."""
    return dispatch.loops_on_cpu(x)


def _is_few(x: Tensor, *weights: Int8Weight) -> bool:
    return dispatch.loops_on_cpu(x, tokens=x.shape[0]) and sum([weight.size for weight in weights]) < _LARGE


def attention_in(
    x: Tensor,
    large: tuple[Int8Weight, Int8Weight, Int8Weight],
    pack: Pack,
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    index_heads: int,
    eps: float,
    rest: Callable[[Tensor], Rest],
) -> Inputs:
    """See the package docstring for the contract."""
    if _is_few(x, *large):
        small = pack.arrays()
        if small is not None:
            return few.attention_in(x, large, small, cos, sin, heads=heads, index_heads=index_heads, eps=eps)
    gains = pack.tensors()[:2]
    latent, q, kv = many.attention_in(x, large, (gains[0], gains[1]), cos, sin, heads=heads, eps=eps)
    return Inputs(q, kv, *rest(latent))


def attention_out(o: Tensor, wo_a: Int8Weight, wo_b: Int8Weight, cos: Tensor, sin: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    body = few if _is_few(o, wo_a, wo_b) else many
    return body.attention_out(o, wo_a, wo_b, cos, sin)


def int8_experts(
    x: Tensor, routed: Pair, shared: Pair, *, chosen: Tensor, weights: Tensor, limit: float | None
) -> Tensor:
    """See the package docstring for the contract."""
    made = many.experts if fits(x) else ref.experts
    return made(x, routed, shared, chosen=chosen, weights=weights, limit=limit)


def int8_mixture(
    x: Tensor,
    gate: Tensor,
    routed: Pair,
    shared: Pair,
    *,
    top: int,
    scale: float,
    normalise: bool,
    limit: float | None,
    bias: Tensor | None,
    table_rows: Tensor | None,
    plain: Callable[[], Tensor],
) -> Tensor:
    """See the package docstring for the contract."""
    if _is_few(x, *routed, *shared):
        rules = {"top": top, "scale": scale, "normalise": normalise, "limit": limit}
        return few.mixture(x, gate, routed, shared, bias=bias, table_rows=table_rows, **rules)
    return plain()


__all__ = ["Rest", "attention_in", "attention_out", "fits", "int8_experts", "int8_mixture"]
