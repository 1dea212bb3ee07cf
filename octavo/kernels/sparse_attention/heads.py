"""The two products of attention for all heads of one query, four rows at a time: FP32, compiled, on the CPU.

Covers: logits of listed rows, and the sum of listed rows by weight. Four rows share the loads of the query, or of the
output, and are in the first-level cache while every head passes over them. Does not cover: the softmax (`loops`).
"""

from __future__ import annotations

import numpy as np

from octavo.kernels.compiled import loop
from octavo.kernels.linear.loops import dot


@loop
def logits_of(q, rows, listed, scale, out):
    """out [H, n] = scale q [H, K] . rows[listed]."""
    H, K = q.shape
    whole = len(listed) // 4 * 4
    for i in range(0, whole, 4):
        r0, r1, r2, r3 = rows[listed[i]], rows[listed[i + 1]], rows[listed[i + 2]], rows[listed[i + 3]]
        for h in range(H):
            d0, d1, d2, d3 = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for k in range(K):
                v = q[h, k]
                d0 += v * r0[k]
                d1 += v * r1[k]
                d2 += v * r2[k]
                d3 += v * r3[k]
            out[h, i], out[h, i + 1], out[h, i + 2], out[h, i + 3] = d0 * scale, d1 * scale, d2 * scale, d3 * scale
    for i in range(whole, len(listed)):
        for h in range(H):
            out[h, i] = dot(q[h], rows[listed[i]]) * scale


@loop
def add_rows(p, rows, listed, out):
    """out [H, K] += p [H, n] rows[listed]."""
    H, K = out.shape
    whole = len(listed) // 4 * 4
    for i in range(0, whole, 4):
        r0, r1, r2, r3 = rows[listed[i]], rows[listed[i + 1]], rows[listed[i + 2]], rows[listed[i + 3]]
        for h in range(H):
            p0, p1, p2, p3 = p[h, i], p[h, i + 1], p[h, i + 2], p[h, i + 3]
            for k in range(K):
                out[h, k] += p0 * r0[k] + p1 * r1[k] + p2 * r2[k] + p3 * r3[k]
    for i in range(whole, len(listed)):
        row = rows[listed[i]]
        for h in range(H):
            for k in range(K):
                out[h, k] += p[h, i] * row[k]
