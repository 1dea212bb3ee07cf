"""Queries and window rows made ready for attention: norm, rotation, and the rows' bytes in their ring.

Contract, for packed tokens at `places` (T tokens, H heads of K channels, the last P of them rotary):
`cache_write(q [T, H, K], kv [T, K], kv_weight [K], cos [T, P/2], sin, ring, places, *, eps, format, rope, out=None)
-> q' [T, H, K]`. Every head of q is divided by its RMS and rotated; rounded once to q's dtype; `out` may be q itself.
kv is divided by its RMS, multiplied by kv_weight, rotated, and stored as row position % R of its sequence in the ring
(uint8 [B, R, row bytes]): "fp32" 4 K bytes, "bf16" 2 K, "fp8" the layout of `octavo.kernels.quant.rows` with `rope`
channels in BF16 (beside FP4 entries too). Of tokens of one step that share a slot the last one is kept; a sequence's
tokens must be consecutive.
`rotate_out(o [T, H, K], cos [T, P/2], sin, *, out=None) -> [T, H, K]`: the inverse rotation of attention's output,
rounded once to o's dtype; `out` may be o itself, then only the rotary channels move.
Arithmetic in FP32. Padding (position -1) gives zeros as q' and writes no row. T = 0 writes nothing. No gradients.
ValueError for a wrong shape, dtype or format.
"""

from __future__ import annotations

from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.cache_write import ref
from octavo.kernels.paged import Format, Places, Ring


def cache_write(
    q: Tensor,
    kv: Tensor,
    kv_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    ring: Ring,
    places: Places,
    *,
    eps: float,
    format: Format,
    rope: int,
    out: Tensor | None = None,
) -> Tensor:
    """See the package docstring for the contract."""
    if q.is_cuda and dispatch.body() is dispatch.Body.FAST:
        from octavo.kernels.cache_write import triton as body  # triton is there where a GPU is
    else:
        body = ref
    return body.cache_write(q, kv, kv_weight, cos, sin, ring, places, eps=eps, format=format, rope=rope, out=out)


def rotate_out(o: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor | None = None) -> Tensor:
    """See the package docstring for the contract."""
    if o.is_cuda and dispatch.body() is dispatch.Body.FAST:
        from octavo.kernels.cache_write import triton as body  # triton is there where a GPU is
    else:
        body = ref
    return body.rotate_out(o, cos, sin, out=out)


__all__ = ["cache_write", "rotate_out"]
