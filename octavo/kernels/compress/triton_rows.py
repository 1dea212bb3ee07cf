"""One entry in registers -> its bytes in a paged store.

Covers: FP32, BF16, FP8 of main entries (e4m3 | rotary part in BF16 | e8m0 per 64 channels), FP4 of main entries (e2m1 |
rotary part in e4m3 | e8m0 per 32 channels), FP8 and FP4 of index keys; the bytes are those of `octavo.kernels.quant`.
Does not cover: how an entry is made (`triton`), decoding.
"""

# Triton's annotations do not know that constants arrive as plain numbers.
# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.bits import e8m0_of, from_e8m0, inverse_e8m0, magnitude, to_bf16, to_e2m1, to_e4m3


@triton.jit
def _scaled(x, LARGEST: tl.constexpr, N: tl.constexpr, GROUP: tl.constexpr):
    """[N] -> the groups divided by their scales [N / GROUP, GROUP], the scales' bytes [N / GROUP]."""
    grouped = tl.reshape(x, (N // GROUP, GROUP))
    largest = tl.max(magnitude(grouped), axis=1).to(tl.float32, bitcast=True)
    code = e8m0_of(largest, LARGEST)
    return grouped * tl.expand_dims(inverse_e8m0(code), 1), code


@triton.jit
def _main_fp8(x, rows, halves, slot, K: tl.constexpr, N: tl.constexpr, P: tl.constexpr, ROW: tl.constexpr):
    PLAIN: tl.constexpr = K - P
    GROUP: tl.constexpr = min(64, N)
    GROUPS: tl.constexpr = (PLAIN + 63) // 64
    c = tl.arange(0, N)
    scaled, code = _scaled(tl.where(c < PLAIN, x, 0.0), 448, N, GROUP)
    tl.store(rows + slot * ROW + c, tl.reshape(to_e4m3(scaled), (N,)), mask=c < PLAIN)
    turned = halves + slot * (ROW // 2) + PLAIN // 2 + (c - PLAIN)
    tl.store(turned, to_bf16(x), mask=(c >= PLAIN) & (c < K))
    g = tl.arange(0, N // GROUP)
    tl.store(rows + slot * ROW + PLAIN + 2 * P + g, code, mask=g < GROUPS)
    filler = ROW - 8 + tl.arange(0, 8)
    blank = tl.zeros((8,), tl.uint8)
    tl.store(rows + slot * ROW + filler, blank, mask=filler >= PLAIN + 2 * P + GROUPS)


@triton.jit
def _pairs(row, x, WIDTH: tl.constexpr, N: tl.constexpr, SCALES: tl.constexpr):
    """The first WIDTH of x [N] as e2m1 pairs at `row`, their scales SCALES bytes behind it."""
    GROUP: tl.constexpr = min(32, N)
    c = tl.arange(0, N)
    scaled, code = _scaled(tl.where(c < WIDTH, x, 0.0), 6, N, GROUP)
    low, high = tl.split(tl.reshape(to_e2m1(scaled), (N // 2, 2)))
    pair, g = tl.arange(0, N // 2), tl.arange(0, N // GROUP)
    tl.store(row + pair, low | (high << 4), mask=pair < WIDTH // 2)
    tl.store(row + SCALES + g, code, mask=g * 32 < WIDTH)


@triton.jit
def _main_fp4(row, x, K: tl.constexpr, N: tl.constexpr, P: tl.constexpr, ROW: tl.constexpr):
    PLAIN: tl.constexpr = K - P
    END: tl.constexpr = PLAIN // 2 + P + (PLAIN + 31) // 32  # of the scales of e2m1
    TURNED: tl.constexpr = (P + 31) // 32
    c = tl.arange(0, N)
    _pairs(row, x, PLAIN, N, PLAIN // 2 + P)
    for g in tl.static_range(TURNED):
        inside = (c >= PLAIN + 32 * g) & (c < min(PLAIN + 32 * g + 32, K))
        code = e8m0_of(tl.max(tl.where(inside, magnitude(x), 0), axis=0).to(tl.float32, bitcast=True), 448)
        tl.store(row + PLAIN // 2 + (c - PLAIN), to_e4m3(x * inverse_e8m0(code)), mask=inside)
        tl.store(row + END + g, code)
    filler = ROW - 8 + tl.arange(0, 8)
    tl.store(row + filler, tl.zeros((8,), tl.uint8), mask=filler >= END + TURNED)


@triton.jit
def write_entry(x, rows, second, slot, K: tl.constexpr, N: tl.constexpr, P: tl.constexpr, ROW: tl.constexpr,
                LAYOUT: tl.constexpr):  # fmt: skip
    """Store x [N] (its first K channels) as row `slot` of ROW bytes; nothing else is written.

    LAYOUT: "fp32", "bf16", "main fp8" and "main fp4" with P rotary channels, "index fp8", "index fp4". `rows` counts in
    FP32, in 16 bits for BF16, else in bytes; `second` are the rows in 16 bits for "main fp8" and in FP32 for "index
    fp8".
    """
    c = tl.arange(0, N)
    slot = slot.to(tl.int64)
    if LAYOUT == "fp32":
        tl.store(rows + slot * K + c, x, mask=c < K)
    elif LAYOUT == "bf16":
        tl.store(rows + slot * K + c, to_bf16(x), mask=c < K)
    elif LAYOUT == "main fp8":
        _main_fp8(x, rows, second, slot, K, N, P, ROW)
    elif LAYOUT == "index fp8":
        scaled, code = _scaled(x, 448, N, N)
        tl.store(rows + slot * ROW + c, tl.reshape(to_e4m3(scaled), (N,)), mask=c < K)
        one = tl.arange(0, 1)
        tl.store(second + slot * (ROW // 4) + K // 4 + one, from_e8m0(code), mask=one == 0)
    elif LAYOUT == "main fp4":
        _main_fp4(rows + slot * ROW, x, K, N, P, ROW)
    else:
        _pairs(rows + slot * ROW, x, K, N, K // 2)
