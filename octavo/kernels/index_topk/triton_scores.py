"""Scores of index keys in a paged store, as integers that order like them, and the best of every group of them.

Covers: keys in FP32, BF16, FP8 (J e4m3 | FP32 scale) and FP4 (J/2 e2m1 pairs | e8m0 per 32); products in FP32, BF16,
FP16 or FP8 with FP32 sums. Does not cover: the choice (`triton_select`), buffers and sizes (`triton`).

A program holds BQ queries with all their heads and streams tiles of BK keys through
dots [BK, BQ * heads] = keys [BK, J] . queries^T. Keys are the rows of the product, so that the sum over heads runs
along a row, which a thread of the tensor cores' layout holds almost whole.

FP16 products serve FP8 and FP4 keys: the device turns both into FP16 exactly and in few instructions. A query head
takes part divided by the power of two at its largest channel, which its weight carries; what BF16 holds and FP16 does
not is then below 2^-24 of that channel. FP8 products take FP8 keys as they are and round the queries to e4m3 after the
same division.
"""

# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.bits import from_e2m1, from_e4m3, from_e8m0, magnitude, opaque

LOWEST = tl.constexpr(-(2**31))  # of an entry that a query does not see


@triton.jit
def ordered(score):
    """FP32 -> int32 that compares as the scores do; 0 and -0 are equal, NaN ranks last."""
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return tl.where(score == score, key, LOWEST + 1)


@triton.jit
def _operand(values, inverse, DOT: tl.constexpr):
    """Queries [N, J] as FP32 -> the operand [J, N] of the product."""
    if DOT == "fp16":
        values = (values * inverse[:, None]).to(tl.float16)
    elif DOT == "fp8":
        values = (values * inverse[:, None]).to(tl.float8e4nv)
    elif DOT == "bf16":
        values = values.to(tl.bfloat16)
    return tl.trans(values)


@triton.jit
def _fp4_halves(codes, exponents, J: tl.constexpr, BK: tl.constexpr, DOT: tl.constexpr):
    """Bytes [BK, J/2] and e8m0 [BK, J/32] -> even channels, odd channels [BK, J/2], and what a row must be multiplied
    by still [BK]."""
    low, high = codes & 15, codes >> 4
    if DOT == "fp16":
        # e2m1 bits at the place of FP16's stand for 2^-14 of the value; the group's share of 2^14 brings it back.
        top = tl.max(exponents.to(tl.int32), axis=1)
        share = tl.maximum(29 + exponents.to(tl.int32) - tl.expand_dims(top, 1), 0)
        factor = (share << 10).to(tl.int16).to(tl.float16, bitcast=True)
        low = (((low.to(tl.int16) & 8) << 12) | ((low.to(tl.int16) & 7) << 9)).to(tl.float16, bitcast=True)
        high = (((high.to(tl.int16) & 8) << 12) | ((high.to(tl.int16) & 7) << 9)).to(tl.float16, bitcast=True)
        rest = from_e8m0(top.to(tl.uint8))
    else:
        factor = from_e8m0(exponents)
        low, high = from_e2m1(low), from_e2m1(high)
        rest = tl.full((BK,), 1.0, tl.float32)
    wide = tl.expand_dims(factor, 2)
    low = tl.reshape(tl.reshape(low, (BK, J // 32, 16)) * wide, (BK, J // 2))
    high = tl.reshape(tl.reshape(high, (BK, J // 32, 16)) * wide, (BK, J // 2))
    return low, high, rest


@triton.jit
def _products(rows, scales, slot, known, first, second, J: tl.constexpr, JP: tl.constexpr, BK: tl.constexpr,
              ROW: tl.constexpr, FORMAT: tl.constexpr, DOT: tl.constexpr):  # fmt: skip
    """Products [BK, N] of the keys in `slot` with all queries, and what a key's score must be multiplied by [BK].

    `rows` counts in the format's elements, ROW of them a row; `first` [J, N] are the queries, or for FP4 their even
    channels and `second` the odd ones.
    """
    rest = tl.full((BK,), 1.0, tl.float32)
    if FORMAT == "fp4":
        j, g = tl.arange(0, J // 2), tl.arange(0, J // 32)
        codes = tl.load(rows + slot[:, None] * ROW + j[None, :], mask=known[:, None], other=0)
        exponents = tl.load(rows + slot[:, None] * ROW + J // 2 + g[None, :], mask=known[:, None], other=127)
        low, high, rest = _fp4_halves(codes, exponents, J, BK, DOT)
        dots = tl.dot(low, first, input_precision="ieee")
        dots = tl.dot(high, second, dots, input_precision="ieee")
    else:
        j = tl.arange(0, JP)
        mask = known[:, None] & (j < J)[None, :]
        keys = tl.load(rows + slot[:, None] * ROW + j[None, :], mask=mask, other=0)
        if FORMAT == "fp8":
            rest = tl.load(scales + slot * (ROW // 4) + J // 4, mask=known, other=0.0)
            if DOT == "fp8":
                keys = keys.to(tl.float8e4nv, bitcast=True)
            elif DOT == "fp16":
                keys = keys.to(tl.float8e4nv, bitcast=True).to(tl.float16)
            else:
                keys = from_e4m3(keys)
        elif DOT == "fp32":
            keys = keys.to(tl.float32)
        dots = tl.dot(keys, first, input_precision="ieee")
    return dots, rest


@triton.jit(do_not_specialize=["T"])
def score_kernel(
    q, w, rows, scales, table, sequence, position, keys, peaks, T, pages, stride, peak_stride, chunk,
    I: tl.constexpr, J: tl.constexpr, IP: tl.constexpr, JP: tl.constexpr, ROW: tl.constexpr, FORMAT: tl.constexpr,
    PER_PAGE: tl.constexpr, RATIO: tl.constexpr, K: tl.constexpr, G: tl.constexpr, BQ: tl.constexpr,
    BK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """keys[t, e]: the ordered score of every entry that query t sees; peaks[t, e // G]: the largest of a group.

    Program (b, c): queries b * BQ .., tiles c * chunk .. of BK entries. Nothing is written for entries that a query
    does not see, nor for queries that see at most K.
    """
    block, start = tl.program_id(0) * BQ, tl.program_id(1) * chunk
    own = block + tl.arange(0, BQ)
    runs = tl.load(sequence + own, mask=own < T, other=-1)
    seen = tl.minimum((tl.load(position + own, mask=own < T, other=-1) + 1) // RATIO, pages * PER_PAGE)
    seen = tl.where(seen > K, seen, 0)
    if tl.max(seen, axis=0) > start * BK:
        n = tl.arange(0, BQ * IP)
        line = (block + n // IP).to(tl.int64) * I + n % IP
        real = (block + n // IP < T) & (n % IP < I)
        weight = tl.load(w + line, mask=real, other=0.0).to(tl.float32)
        HALF: tl.constexpr = J // 2 if FORMAT == "fp4" else JP
        j = tl.arange(0, HALF) * (2 if FORMAT == "fp4" else 1)
        some = real[:, None] & (j < J)[None, :]
        even = tl.load(q + line[:, None] * J + j[None, :], mask=some, other=0.0).to(tl.float32)
        odd = even
        if FORMAT == "fp4":
            odd = tl.load(q + line[:, None] * J + 1 + j[None, :], mask=some, other=0.0).to(tl.float32)
        inverse = weight
        if DOT == "fp16" or DOT == "fp8":
            size = tl.max(tl.maximum(magnitude(even), magnitude(odd)), axis=1)
            # The largest channel of a head becomes 1 to 2 in FP16 and 128 to 256 in e4m3.
            power = tl.minimum(tl.maximum((size >> 23) - (7 if DOT == "fp8" else 0), 1), 253)
            inverse = ((254 - power) << 23).to(tl.float32, bitcast=True)
            weight *= (power << 23).to(tl.float32, bitcast=True)
        first, second = _operand(even, inverse, DOT), _operand(odd, inverse, DOT)
        for b in range(BQ):  # one pass over the entries for every sequence among the queries
            at = tl.minimum(block + b, T - 1)
            run = tl.load(sequence + at)
            known = tl.where(runs == run, seen, 0)
            end = tl.max(known, axis=0)
            again = (b > 0) & (tl.load(sequence + tl.maximum(at - 1, 0)) == run)
            stop = tl.where(again, start, tl.minimum(tl.cdiv(end, BK), start + chunk))
            for tile in range(start, stop):
                e = tile * BK + tl.arange(0, BK)
                page = tl.load(table + run * pages + e // PER_PAGE, mask=e < end, other=0)
                slot = opaque(page.to(tl.int64) * PER_PAGE + e % PER_PAGE)
                dots, rest = _products(rows, scales, slot, e < end, first, second, J, JP, BK, ROW, FORMAT, DOT)
                parts = tl.reshape(tl.maximum(dots, 0.0) * weight[None, :], (BK, BQ, IP))
                score = tl.sum(parts, axis=2) * rest[:, None]
                key = tl.where(e[:, None] < known[None, :], ordered(score), LOWEST)
                into = keys + own.to(tl.int64)[None, :] * stride + e[:, None]
                tl.store(into, key, mask=e[:, None] < known[None, :])
                if G > 1:
                    peak = tl.max(tl.reshape(key, (BK // G, G, BQ)), axis=1)
                    g = tile * (BK // G) + tl.arange(0, BK // G)
                    into = peaks + own.to(tl.int64)[None, :] * peak_stride + g[:, None]
                    tl.store(into, peak, mask=g[:, None] * G < known[None, :])
