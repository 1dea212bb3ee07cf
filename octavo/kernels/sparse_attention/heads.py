"""The two products of attention for all heads of one query, four heads and four rows at a time: FP32, on the CPU.

Covers: logits of listed rows, and the sum of listed rows by weight. Sixteen products share eight loads, and rows are
in the first-level cache while every head passes over them. Does not cover: the softmax (`loops`, `chunk`).
"""

from __future__ import annotations

import numpy as np

from octavo.kernels.compiled import part
from octavo.kernels.linear.loops import dot


@part
def logits_of(q, rows, listed, scale, out):
    """out [H, n] = scale q [H, K] . rows[listed]."""
    H, n = len(q), len(listed)
    heads, whole = H // 4 * 4, n // 4 * 4
    for i in range(0, whole, 4):
        for h in range(0, heads, 4):
            _four_by_four(q, rows, listed, scale, h, i, out)
        for h in range(heads, H):
            for j in range(i, i + 4):
                out[h, j] = dot(q[h], rows[listed[j]]) * scale
    for i in range(whole, n):
        for h in range(H):
            out[h, i] = dot(q[h], rows[listed[i]]) * scale


@part
def add_rows(p, rows, listed, out):
    """out [H, K] += p [H, n] rows[listed]."""
    H, K = out.shape
    heads, whole = H // 4 * 4, len(listed) // 4 * 4
    for i in range(0, whole, 4):
        for h in range(0, heads, 4):
            _add_four_to_four(p, rows, listed, h, i, out)
        for h in range(heads, H):
            for j in range(i, i + 4):
                row = rows[listed[j]]
                for k in range(K):
                    out[h, k] += p[h, j] * row[k]
    for i in range(whole, len(listed)):
        row = rows[listed[i]]
        for h in range(H):
            for k in range(K):
                out[h, k] += p[h, i] * row[k]


@part
def _four_by_four(q, rows, listed, scale, h, i, out):
    r0, r1, r2, r3 = rows[listed[i]], rows[listed[i + 1]], rows[listed[i + 2]], rows[listed[i + 3]]
    q0, q1, q2, q3 = q[h], q[h + 1], q[h + 2], q[h + 3]
    none = np.float32(0.0)
    a0, a1, a2, a3, b0, b1, b2, b3 = none, none, none, none, none, none, none, none
    c0, c1, c2, c3, d0, d1, d2, d3 = none, none, none, none, none, none, none, none
    for k in range(q.shape[1]):
        w, x, y, z = r0[k], r1[k], r2[k], r3[k]
        a0, a1, a2, a3 = a0 + q0[k] * w, a1 + q0[k] * x, a2 + q0[k] * y, a3 + q0[k] * z
        b0, b1, b2, b3 = b0 + q1[k] * w, b1 + q1[k] * x, b2 + q1[k] * y, b3 + q1[k] * z
        c0, c1, c2, c3 = c0 + q2[k] * w, c1 + q2[k] * x, c2 + q2[k] * y, c3 + q2[k] * z
        d0, d1, d2, d3 = d0 + q3[k] * w, d1 + q3[k] * x, d2 + q3[k] * y, d3 + q3[k] * z
    out[h, i], out[h, i + 1], out[h, i + 2], out[h, i + 3] = a0 * scale, a1 * scale, a2 * scale, a3 * scale
    h += 1
    out[h, i], out[h, i + 1], out[h, i + 2], out[h, i + 3] = b0 * scale, b1 * scale, b2 * scale, b3 * scale
    h += 1
    out[h, i], out[h, i + 1], out[h, i + 2], out[h, i + 3] = c0 * scale, c1 * scale, c2 * scale, c3 * scale
    h += 1
    out[h, i], out[h, i + 1], out[h, i + 2], out[h, i + 3] = d0 * scale, d1 * scale, d2 * scale, d3 * scale


@part
def _add_four_to_four(p, rows, listed, h, i, out):
    r0, r1, r2, r3 = rows[listed[i]], rows[listed[i + 1]], rows[listed[i + 2]], rows[listed[i + 3]]
    o0, o1, o2, o3 = out[h], out[h + 1], out[h + 2], out[h + 3]
    a0, a1, a2, a3 = p[h, i], p[h, i + 1], p[h, i + 2], p[h, i + 3]
    b0, b1, b2, b3 = p[h + 1, i], p[h + 1, i + 1], p[h + 1, i + 2], p[h + 1, i + 3]
    c0, c1, c2, c3 = p[h + 2, i], p[h + 2, i + 1], p[h + 2, i + 2], p[h + 2, i + 3]
    d0, d1, d2, d3 = p[h + 3, i], p[h + 3, i + 1], p[h + 3, i + 2], p[h + 3, i + 3]
    for k in range(out.shape[1]):
        w, x, y, z = r0[k], r1[k], r2[k], r3[k]
        o0[k] += a0 * w + a1 * x + a2 * y + a3 * z
        o1[k] += b0 * w + b1 * x + b2 * y + b3 * z
        o2[k] += c0 * w + c1 * x + c2 * y + c3 * z
        o3[k] += d0 * w + d1 * x + d2 * y + d3 * z
