"""A layer's INT8 maps for a handful of tokens: one loop before attention, one behind it, one for the mixture of
experts. On the CPU, FP32 beside the INT8 weights, no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop, part
from octavo.kernels.int8_layer.parts import swiglu
from octavo.kernels.int8_layer.ref import Pair
from octavo.kernels.int8_linear.parts import code_dot, code_products, rounded, scaled
from octavo.kernels.int8_linear.ref import Int8Weight
from octavo.kernels.linear.loops import products
from octavo.kernels.projections.loops import Inputs, into_index
from octavo.kernels.rmsnorm.loops import norm
from octavo.kernels.rope.loops import turn
from octavo.kernels.route.loops import choice

_NO_NUMBERS = np.empty(0, dtype=np.float32)
_NO_MAP = np.empty((0, 0), dtype=np.float32)
_PLUS, _MINUS, _NO_NORM = np.float32(1.0), np.float32(-1.0), np.float32(-1.0)


def attention_in(
    x: Tensor,
    large: tuple[Int8Weight, Int8Weight, Int8Weight],
    small: tuple[np.ndarray, ...],
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    index_heads: int,
    eps: float,
) -> Inputs:
    """See the package docstring for the contract; `small` are the pack's arrays."""
    T, parts = len(x), len(small)
    wq_a, wq_b, wkv = (weight.arrays for weight in large)
    main = small[2:4] if parts > 2 else (_NO_MAP, _NO_MAP)
    index = small[4:] if parts > 4 else (_NO_MAP,) * 4
    q = np.empty((T, heads, len(wq_b[1]) // heads), dtype=np.float32)
    kv, raw = np.empty((T, 1, len(wkv[1])), dtype=np.float32), np.empty((T, 2 * len(main[0])), dtype=np.float32)
    index_q = np.empty((T, index_heads, len(index[0]) // max(index_heads, 1)), dtype=np.float32)
    index_w, index_raw = (np.empty((T, n), dtype=np.float32) for n in (len(index[1]), 2 * len(index[2])))
    given: tuple[Any, ...] = (
        x.contiguous().numpy(), *wq_a, *wq_b, *wkv, *small[:2], *main, *index, cos.numpy(), sin.numpy(),
        np.float32(eps), q, kv, raw, index_q, index_w, index_raw,
    )  # fmt: skip
    _into(*given)
    from_numpy = torch.from_numpy
    return Inputs(
        from_numpy(q),
        from_numpy(kv.reshape(T, -1)),
        from_numpy(raw) if parts > 2 else None,
        from_numpy(index_q) if parts > 4 else None,
        from_numpy(index_w) if parts > 4 else None,
        from_numpy(index_raw) if parts > 4 else None,
    )


def attention_out(o: Tensor, wo_a: Int8Weight, wo_b: Int8Weight, cos: Tensor, sin: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    (matrix, factor), N = wo_a.arrays, wo_a.shape[1]
    out = np.empty((len(o), len(wo_b.scale)), dtype=np.float32)
    groups = matrix.reshape(o.shape[1] * o.shape[2] // N, -1, N)
    _back(o.contiguous().numpy(), cos.numpy(), sin.numpy(), groups, factor.reshape(groups.shape[:2]), *wo_b.arrays, out)
    return torch.from_numpy(out)


def mixture(
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
) -> Tensor:
    """See the package docstring for the contract."""
    given = table_rows is not None
    chosen = table_rows.numpy() if table_rows is not None else np.empty((len(x), top), dtype=np.int64)
    out = np.empty(tuple(x.shape), dtype=np.float32)
    arrays = [array for weight in (*routed, *shared) for array in weight.arrays]
    passed: tuple[Any, ...] = (
        x.contiguous().numpy(), gate.numpy(), *arrays, _NO_NUMBERS if bias is None else bias.numpy(), given, normalise,
        np.float32(scale), np.float32(math.inf if limit is None else limit), chosen, out,
    )  # fmt: skip
    _mixture(*passed)
    return torch.from_numpy(out)


@loop
def _into(
    x, wq_a, a_factor, wq_b, b_factor, wkv, kv_factor, q_gain, kv_gain, main_kv, main_gate,
    index_q_b, index_proj, index_kv, index_gate, cos, sin, eps, q, kv, raw, index_q, index_w, index_raw,
):  # fmt: skip
    T, H, K = q.shape
    codes, scale = np.empty(x.shape, dtype=np.int16), np.empty(T, dtype=np.float32)
    for t in range(T):
        scale[t] = rounded(x[t], codes[t])
    latent = np.empty((T, len(wq_a)), dtype=np.float32)
    code_products(codes, scale, wq_a, a_factor, latent, 0, len(wq_a))
    norm(latent, q_gain, eps, latent, 0, T)
    code_products(codes, scale, wkv, kv_factor, kv.reshape(T, kv.shape[2]), 0, len(wkv))
    turn(kv, cos, sin, _PLUS, kv_gain, eps, kv, 0, T)
    low = np.empty(latent.shape, dtype=np.int16)
    for t in range(T):
        scale[t] = rounded(latent[t], low[t])
    code_products(low, scale, wq_b, b_factor, q.reshape(T, H * K), 0, H * K)
    turn(q, cos, sin, _PLUS, _NO_NUMBERS, eps, q, 0, T)
    half = len(main_kv)
    products(x, main_kv, raw[:, :half], 0, half)
    products(x, main_gate, raw[:, half:], 0, half)
    if len(index_kv) > 0:
        into_index(x, latent, index_q_b, index_proj, index_kv, index_gate, cos, sin, index_q, index_w, index_raw)


@loop
def _back(o, cos, sin, wo_a, a_factor, wo_b, b_factor, out):
    T, H, K = o.shape
    G, R, N = wo_a.shape
    turned, codes = np.empty((1, H, K), dtype=np.float32), np.empty((G, N), dtype=np.int16)
    low, low_codes = np.empty(G * R, dtype=np.float32), np.empty((T, G * R), dtype=np.int16)
    scale = np.empty(T, dtype=np.float32)
    for t in range(T):
        turn(o[t : t + 1], cos[t : t + 1], sin[t : t + 1], _MINUS, _NO_NUMBERS, _NO_NORM, turned, 0, 1)
        given = turned.reshape(G, N)
        for g in range(G):
            own = rounded(given[g], codes[g])
            for r in range(R):
                low[g * R + r] = scaled(code_dot(wo_a[g, r], codes[g]), own, a_factor[g, r])
        scale[t] = rounded(low, low_codes[t])
    code_products(low_codes, scale, wo_b, b_factor, out, 0, len(wo_b))


@part
def _add_expert(codes, own, w13, factor13, w2, factor2, share, limit, hidden, hidden_codes, out):
    """Add one expert's output for one rounded token."""
    F = len(hidden)
    for f in range(F):
        gate = scaled(code_dot(w13[f], codes), own, factor13[f])
        up = scaled(code_dot(w13[F + f], codes), own, factor13[F + f])
        hidden[f] = swiglu(gate, up, limit, share)
    again = rounded(hidden, hidden_codes)
    for d in range(len(w2)):
        out[d] += scaled(code_dot(w2[d], hidden_codes), again, factor2[d])


@loop
def _mixture(
    x, gate, w13, factor13, w2, factor2, s13, s_factor13, s2, s_factor2, bias, given, normalise, scale, limit, chosen,
    out,
):  # fmt: skip
    T, X = len(x), len(gate)
    raw, scores = np.empty((T, X), dtype=np.float32), np.empty((T, X), dtype=np.float32)
    shares = np.empty(chosen.shape, dtype=np.float32)
    products(x, gate, raw, 0, X)
    choice(raw, bias, given, normalise, scale, chosen, shares, scores)
    codes = np.empty(x.shape[1], dtype=np.int16)
    hidden, hidden_codes = np.empty(w2.shape[2], dtype=np.float32), np.empty(w2.shape[2], dtype=np.int16)
    common, common_codes = np.empty(s2.shape[2], dtype=np.float32), np.empty(s2.shape[2], dtype=np.int16)
    for t in range(T):
        own, row = rounded(x[t], codes), out[t]
        row[:] = np.float32(0.0)
        _add_expert(
            codes, own, s13[0], s_factor13[0], s2[0], s_factor2[0], np.float32(1.0), limit, common, common_codes, row
        )
        for a in range(chosen.shape[1]):
            e, share = chosen[t, a], shares[t, a]
            _add_expert(codes, own, w13[e], factor13[e], w2[e], factor2[e], share, limit, hidden, hidden_codes, row)
