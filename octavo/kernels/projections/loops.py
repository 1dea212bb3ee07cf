"""The maps around attention as one loop each, for a handful of tokens on the CPU: FP32, no gradient."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import loop, part
from octavo.kernels.hadamard.loops import butterflies
from octavo.kernels.linear.loops import grouped_products, products
from octavo.kernels.rmsnorm.loops import norm
from octavo.kernels.rope.loops import turn

_NO_WEIGHT = np.empty(0, dtype=np.float32)
_NO_MAP = np.empty((0, 0), dtype=np.float32)


class Inputs(NamedTuple):
    """q [T, H, K], kv [T, K]; raw rows [T, 2w] of the compressor; index queries [T, I, J], head weights [T, I] and raw
    rows of the indexer; None for a part that the layer lacks."""

    q: Tensor
    kv: Tensor
    raw: Tensor | None
    index_q: Tensor | None
    index_w: Tensor | None
    index_raw: Tensor | None


def project_in(
    x: Tensor,
    weights: tuple[np.ndarray, ...],
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    index_heads: int,
    eps: float,
) -> Inputs:
    """See the package docstring for the contract."""
    T, parts = x.shape[0], len(weights)
    wq_a, q_gain, wq_b, wkv, kv_gain = weights[:5]
    main_kv, main_gate = weights[5:7] if parts > 5 else (_NO_MAP, _NO_MAP)
    index_q_b, index_proj, index_kv, index_gate = weights[7:] if parts > 7 else (_NO_MAP,) * 4
    q = np.empty((T, heads, len(wq_b) // heads), dtype=np.float32)
    kv, raw = np.empty((T, len(wkv)), dtype=np.float32), np.empty((T, 2 * len(main_kv)), dtype=np.float32)
    index_q = np.empty((T, index_heads, len(index_q_b) // max(index_heads, 1)), dtype=np.float32)
    index_w, index_raw = (np.empty((T, n), dtype=np.float32) for n in (len(index_proj), 2 * len(index_kv)))
    _own(
        x.contiguous().numpy(), wq_a, q_gain, wq_b, wkv, kv_gain, main_kv, main_gate, cos.numpy(), sin.numpy(),
        np.float32(eps), index_q_b, index_proj, index_kv, index_gate, q, kv, raw, index_q, index_w, index_raw,
    )  # fmt: skip
    from_numpy = torch.from_numpy
    return Inputs(
        from_numpy(q),
        from_numpy(kv),
        from_numpy(raw) if parts > 5 else None,
        from_numpy(index_q) if parts > 7 else None,
        from_numpy(index_w) if parts > 7 else None,
        from_numpy(index_raw) if parts > 7 else None,
    )


def project_out(o: Tensor, weights: tuple[np.ndarray, ...], cos: Tensor, sin: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    wo_a, wo_b = weights
    out = np.empty((o.shape[0], len(wo_b)), dtype=np.float32)
    _back(o.contiguous().numpy(), cos.numpy(), sin.numpy(), wo_a, wo_b, out)
    return torch.from_numpy(out)


@loop
def _own(
    x, wq_a, q_gain, wq_b, wkv, kv_gain, main_kv, main_gate, cos, sin, eps,
    index_q_b, index_proj, index_kv, index_gate, q, kv, raw, index_q, index_w, index_raw,
):  # fmt: skip
    T, H, K = q.shape
    plus = np.float32(1.0)
    latent = np.empty((T, len(wq_a)), dtype=np.float32)
    products(x, wq_a, latent, 0, len(wq_a))
    norm(latent, q_gain, eps, latent, 0, T)
    products(latent, wq_b, q.reshape(T, H * K), 0, H * K)
    turn(q, cos, sin, plus, _NO_WEIGHT, eps, q, 0, T)
    products(x, wkv, kv, 0, len(wkv))
    kv3 = kv.reshape(T, 1, kv.shape[1])
    turn(kv3, cos, sin, plus, kv_gain, eps, kv3, 0, T)
    half = len(main_kv)
    products(x, main_kv, raw[:, :half], 0, half)
    products(x, main_gate, raw[:, half:], 0, half)
    if len(index_kv) > 0:
        into_index(x, latent, index_q_b, index_proj, index_kv, index_gate, cos, sin, index_q, index_w, index_raw)


@part
def into_index(x, latent, index_q_b, index_proj, index_kv, index_gate, cos, sin, index_q, index_w, index_raw):
    """The indexer's queries, head weights and raw rows."""
    T, I, J = index_q.shape
    products(latent, index_q_b, index_q.reshape(T, I * J), 0, I * J)
    turn(index_q, cos, sin, np.float32(1.0), _NO_WEIGHT, np.float32(-1.0), index_q, 0, T)
    flat = index_q.reshape(T * I, J)
    butterflies(flat, np.float32(J**-0.5), flat, 0, T * I)
    products(x, index_proj, index_w, 0, I)
    scale = np.float32((I * J) ** -0.5)
    for t in range(T):
        for i in range(I):
            index_w[t, i] *= scale
    half = len(index_kv)
    products(x, index_kv, index_raw[:, :half], 0, half)
    products(x, index_gate, index_raw[:, half:], 0, half)


@loop
def _back(o, cos, sin, wo_a, wo_b, out):
    T, H, K = o.shape
    G = H * K // wo_a.shape[1]
    turned = np.empty((T, H, K), dtype=np.float32)
    turn(o, cos, sin, np.float32(-1.0), _NO_WEIGHT, np.float32(-1.0), turned, 0, T)
    low = np.empty((T, len(wo_a)), dtype=np.float32)
    grouped_products(turned.reshape(T, G, wo_a.shape[1]), wo_a.reshape(G, len(wo_a) // G, wo_a.shape[1]), low)
    products(low, wo_b, out, 0, len(wo_b))
