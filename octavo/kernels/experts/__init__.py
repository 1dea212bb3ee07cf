"""Routed experts with the clamped SwiGLU.

Contract: `experts(x [T, D], w1 [X, F, D], w3 [X, F, D], w2 [X, D, F], *, chosen [T, A] int64, weights [T, A], limit,
round_hidden) -> [T, D]`, at least FP32: the sum over a, with e = chosen[t, a], of w2_e(weights[t, a] * silu(min(w1_e
x, limit)) * clamp(w3_e x, -limit, limit)). A repeated expert counts each time. `limit` None means no clamp.
`round_hidden` is applied to the input of w2 (the FP8 simulation; default: unchanged; `dense` rounds the parts of a
repeated expert as one). Matrix products run in x's dtype, the sum over experts in FP32 (in `dense`: inside the
product). `swiglu(gate, up, limit)` is the activation alone; `mlp(x [T, D], w1 [F, D], w3 [F, D], w2 [D, F], *, limit,
round_hidden) -> [T, D]` in x's dtype is one expert that every token passes with weight 1, and `with_shared(x, w1, w3,
w2, shared, *, chosen, weights, limit) -> [T, D]` in x's dtype the sum of both, `shared` being the three matrices of the
one. T = 0 gives an empty result. Not in place.

Bodies: `ref` loops over tokens; `grouped` sorts tokens by expert and runs one set of products per expert that was hit;
`by_expert` does so with fewer passes (CPU); `gathered` collects the chosen experts' weights when tokens are few,
`loops` reads them in place (CPU); `dense` computes every expert and masks, which is faster on a GPU while all experts
together are about as wide as one dense layer; `triton_backward` (training on a GPU; x BF16 or FP32, D and F multiples
of 16, nothing rounded) sorts pairs into tiles without the host.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.experts import by_expert, fast, loops, ref
from octavo.kernels.experts.ref import Rounding, keep, swiglu

_DENSE_WIDTH = 4096  # experts x width up to which computing all of them beats sorting on a GPU
_FEW_TOKENS = 4


def experts(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w2: Tensor,
    *,
    chosen: Tensor,
    weights: Tensor,
    limit: float | None,
    round_hidden: Rounding = keep,
) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.body() is dispatch.Body.REFERENCE:
        return ref.experts(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit, round_hidden=round_hidden)
    if dispatch.trains_in_triton(x, "experts") and round_hidden is keep and _fits_triton(x, w1):
        from octavo.kernels.experts import triton_backward  # there where a GPU is

        given = [w.to(x.dtype).contiguous() for w in (w1, w3, w2)]
        return triton_backward.experts(x, *given, chosen=chosen, share=weights, limit=limit)
    if x.is_cuda and w1.shape[0] * w1.shape[1] <= _DENSE_WIDTH:
        return fast.dense(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit, round_hidden=round_hidden)
    if dispatch.loops_on_cpu(x) and w1.dtype == x.dtype and round_hidden is keep:
        made = loops.chosen_only if dispatch.loops_on_cpu(x, tokens=x.shape[0]) else by_expert.experts
        return made(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit)
    if x.shape[0] <= _FEW_TOKENS:
        return fast.gathered(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit, round_hidden=round_hidden)
    return fast.grouped(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit, round_hidden=round_hidden)


def with_shared(
    x: Tensor,
    w1: Tensor,
    w3: Tensor,
    w2: Tensor,
    shared: tuple[Tensor, Tensor, Tensor],
    *,
    chosen: Tensor,
    weights: Tensor,
    limit: float | None,
) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.trains_in_triton(x, "experts") and _fits_triton(x, w1) and shared[0].shape[0] % 16 == 0:
        from octavo.kernels.experts import triton_backward  # there where a GPU is

        given = [w.to(x.dtype).contiguous() for w in (w1, w3, w2)]
        own = torch.cat(shared[:2]).to(x.dtype), shared[2].to(x.dtype).contiguous()
        return triton_backward.experts(x, *given, chosen=chosen, share=weights, limit=limit, shared=own)
    routed = experts(x, w1, w3, w2, chosen=chosen, weights=weights, limit=limit)
    return total(routed, mlp(x, *shared, limit=limit), x.dtype)


@dispatch.fusable
def total(routed: Tensor, shared: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum, rounded once."""
    return (routed + shared.to(routed.dtype)).to(dtype)


def _fits_triton(x: Tensor, w1: Tensor) -> bool:
    widths = w1.shape[1:]
    return x.dtype in (torch.bfloat16, torch.float32) and len(x) > 0 and all(n % 16 == 0 for n in widths)


def mlp(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, limit: float | None, round_hidden: Rounding = keep
) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(x) and w1.dtype == x.dtype and round_hidden is keep:
        made = loops.mlp if dispatch.loops_on_cpu(x, tokens=x.shape[0]) else by_expert.mlp
        return made(x, w1, w3, w2, limit=limit)
    hidden = swiglu(F.linear(x, w1.to(x.dtype)), F.linear(x, w3.to(x.dtype)), limit)
    return F.linear(round_hidden(hidden), w2.to(x.dtype))


__all__ = ["experts", "mlp", "swiglu", "total", "with_shared"]
