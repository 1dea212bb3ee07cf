"""A layer's INT8 maps for many tokens: products of codes, and between two of them one pass that puts scales back, does
what stands between, and rounds. On the CPU, no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels.compiled import in_halves, loop
from octavo.kernels.experts.by_expert import sort_by_expert
from octavo.kernels.int8_layer.parts import swiglu
from octavo.kernels.int8_layer.ref import Pair
from octavo.kernels.int8_linear.loops import results, round_rows
from octavo.kernels.int8_linear.parts import rounded, row_of_sums, scaled
from octavo.kernels.int8_linear.products import product
from octavo.kernels.int8_linear.ref import Int8Weight
from octavo.kernels.rmsnorm.loops import norm
from octavo.kernels.rope.loops import turn

_NO_WEIGHT = np.empty(0, dtype=np.float32)
_PLUS, _MINUS, _NO_NORM = np.float32(1.0), np.float32(-1.0), np.float32(-1.0)
_Spans = Sequence[tuple[int, slice]]


def attention_in(
    x: Tensor,
    large: tuple[Int8Weight, Int8Weight, Int8Weight],
    gains: tuple[Tensor, Tensor],
    cos: Tensor,
    sin: Tensor,
    *,
    heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """latent [T, Q], q [T, H, K] and kv [T, K]; see the package docstring for the contract."""
    T, (wq_a, wq_b, wkv) = len(x), large
    latent, q = torch.empty(T, len(wq_a.scale)), torch.empty(T, heads, len(wq_b.scale) // heads)
    kv, table = torch.empty(T, 1, len(wkv.scale)), (cos.numpy(), sin.numpy())
    q_gain, kv_gain, small = gains[0].numpy(), gains[1].numpy(), np.float32(eps)
    codes, scale = round_rows(x)
    low, low_scale = torch.empty(latent.shape, dtype=torch.int8), torch.empty(T)
    sums, made = product(codes, wq_a.codes), (latent.numpy(), low.numpy(), low_scale.numpy())
    in_halves(partial(_latent, sums.numpy(), scale.numpy(), wq_a.arrays[1], q_gain, small, *made), T)
    for given, own, weight, gain, out in ((low, low_scale, wq_b, _NO_WEIGHT, q), (codes, scale, wkv, kv_gain, kv)):
        sums, factor = product(given, weight.codes).view(out.shape), weight.arrays[1].reshape(out.shape[1:])
        in_halves(partial(_turned, sums.numpy(), own.numpy(), factor, gain, *table, small, out.numpy()), T)
    return latent, q, kv.squeeze(1)


def attention_out(o: Tensor, wo_a: Int8Weight, wo_b: Int8Weight, cos: Tensor, sin: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    T, N, rank = len(o), wo_a.shape[1], wo_a.shape[0]
    G, given = o[0].numel() // N, o.contiguous().numpy()
    codes, scale = torch.empty(G, T, N, dtype=torch.int8), torch.empty(G, T)
    in_halves(partial(_turn_round, given, cos.numpy(), sin.numpy(), codes.numpy(), scale.numpy()), T)
    sums = torch.empty(G, T, rank // G, dtype=torch.int32)
    for g, matrix in enumerate(wo_a.codes.view(G, -1, N)):
        product(codes[g], matrix, out=sums[g])
    low, low_scale = torch.empty(T, rank, dtype=torch.int8), torch.empty(T)
    factor = wo_a.arrays[1].reshape(G, -1)
    in_halves(partial(_low, sums.numpy(), scale.numpy(), factor, low.numpy(), low_scale.numpy()), T)
    return results(low, low_scale, wo_b)


def experts(x: Tensor, routed: Pair, shared: Pair, *, chosen: Tensor, weights: Tensor, limit: float | None) -> Tensor:
    """See the package docstring for the contract."""
    bound, (T, A), X = np.float32(math.inf if limit is None else limit), chosen.shape, len(routed[0].codes)
    ends, place = np.zeros(X + 1, dtype=np.int64), np.empty((T, A), dtype=np.int64)
    rows, share = np.empty(T * A, dtype=np.int64), np.empty(T * A, dtype=np.float32)
    sort_by_expert(chosen.numpy(), weights.contiguous().numpy(), ends, place, rows, share)
    spans = [(e, slice(ends[e], ends[e + 1])) for e in range(X) if ends[e + 1] > ends[e]]
    codes, scale = round_rows(x)
    picked, owner = torch.from_numpy(rows), np.repeat(np.arange(X), np.diff(ends))
    given = codes.index_select(0, picked), scale.index_select(0, picked)
    parts, own = _through(*given, routed, spans, owner, share, bound)
    everyone = [(0, slice(0, T))], np.zeros(T, dtype=np.int64), np.ones(T, dtype=np.float32)
    common, common_own = _through(codes, scale, shared, *everyone, bound)
    factors, out = (routed[1].arrays[1], shared[1].arrays[1][0]), np.empty(tuple(x.shape), dtype=np.float32)
    in_halves(partial(_combine, parts, own, owner, place, common, common_own, *factors, out), T)
    return torch.from_numpy(out)


def _through(
    codes: Tensor, scale: Tensor, pair: Pair, spans: _Spans, owner: np.ndarray, share: np.ndarray, bound: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Sums [R, D] of the second product of rounded rows, and the scales [R] of its rounded inputs; `owner` [R] and
    `spans` tell each row's expert."""
    w13, w2 = pair
    R, F = len(codes), w2.shape[2]
    sums, out = (torch.empty(R, width, dtype=torch.int32) for width in (2 * F, w2.shape[1]))
    for e, span in spans:
        product(codes[span], w13.codes[e], out=sums[span])
    hidden, own = torch.empty(R, F, dtype=torch.int8), np.empty(R, dtype=np.float32)
    made = hidden.numpy(), own
    in_halves(partial(_activated, sums.numpy(), scale.numpy(), w13.arrays[1], owner, share, bound, *made), R)
    for e, span in spans:
        product(hidden[span], w2.codes[e], out=out[span])
    return out.numpy(), own


@loop
def _latent(sums, scale, factor, gain, eps, latent, codes, low_scale, start, stop):
    for t in range(start, stop):
        row_of_sums(sums[t], scale[t], factor, latent[t])
        norm(latent, gain, eps, latent, t, t + 1)
        low_scale[t] = rounded(latent[t], codes[t])


@loop
def _turned(sums, scale, factor, gain, cos, sin, eps, out, start, stop):
    for t in range(start, stop):
        for r in range(sums.shape[1]):
            row_of_sums(sums[t, r], scale[t], factor[r], out[t, r])
        turn(out, cos, sin, _PLUS, gain, eps, out, t, t + 1)


@loop
def _turn_round(o, cos, sin, codes, scale, start, stop):
    turned = np.empty((1, o.shape[1], o.shape[2]), dtype=np.float32)
    given = turned.reshape(codes.shape[0], codes.shape[2])
    for t in range(start, stop):
        turn(o[t : t + 1], cos[t : t + 1], sin[t : t + 1], _MINUS, _NO_WEIGHT, _NO_NORM, turned, 0, 1)
        for g in range(len(given)):
            scale[g, t] = rounded(given[g], codes[g, t])


@loop
def _low(sums, scale, factor, codes, low_scale, start, stop):
    G, R = factor.shape
    row = np.empty((G, R), dtype=np.float32)
    for t in range(start, stop):
        for g in range(G):
            row_of_sums(sums[g, t], scale[g, t], factor[g], row[g])
        low_scale[t] = rounded(row.reshape(G * R), codes[t])


@loop
def _activated(sums, scale, factor, owner, share, limit, codes, own, start, stop):
    F = codes.shape[1]
    hidden = np.empty(F, dtype=np.float32)
    for r in range(start, stop):
        row, given, e = sums[r], scale[r], owner[r]
        for f in range(F):
            gate, up = scaled(row[f], given, factor[e, f]), scaled(row[F + f], given, factor[e, F + f])
            hidden[f] = swiglu(gate, up, limit, share[r])
        own[r] = rounded(hidden, codes[r])


@loop
def _combine(parts, own, owner, place, common, common_own, factor, common_factor, out, start, stop):
    for t in range(start, stop):
        row = out[t]
        for d in range(len(row)):
            row[d] = scaled(common[t, d], common_own[t], common_factor[d])
        for a in range(place.shape[1]):
            r = place[t, a]
            e, given, part_own = owner[r], parts[r], own[r]
            for d in range(len(row)):
                row[d] += scaled(given[d], part_own, factor[e, d])
