"""Tiles of up to four streams in a kernel's registers.

Covers: `load_streams`, `pick`. Does not cover: what is computed of them.
"""

# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_streams(row, there, D, M: tl.constexpr):
    """Tiles of M streams, the first at pointers `row` -> four FP32 tiles; those beyond M are copies of the first."""
    h0 = tl.load(row, mask=there, other=0.0).to(tl.float32)
    h1 = h0
    h2 = h0
    h3 = h0
    if M > 1:
        h1 = tl.load(row + D, mask=there, other=0.0).to(tl.float32)
    if M > 2:
        h2 = tl.load(row + 2 * D, mask=there, other=0.0).to(tl.float32)
        h3 = tl.load(row + 3 * D, mask=there, other=0.0).to(tl.float32)
    return h0, h1, h2, h3


@triton.jit
def pick(k: tl.constexpr, h0, h1, h2, h3):
    """The k-th of four tiles."""
    h = h0
    if k == 1:
        h = h1
    if k == 2:
        h = h2
    if k == 3:
        h = h3
    return h
