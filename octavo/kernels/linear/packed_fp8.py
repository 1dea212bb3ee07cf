"""Products of small-format weights and rounded activations on the FP8 matrix units inside Triton kernels: decoding in
registers, in the order the matrix units read.

Covers: `product`, a block of FP4 or FP8 weight rows times a block of rounded activation rows, `packed`, the order that
these lie in, and `row_tops`. Does not cover: grids, epilogues, what rounds (`experts.triton_fp8`), BF16 activations
(`packed`).

A lane of the FP8 matrix units wants four neighbouring weights here and four there; it gets the 32 that lie together in
memory when the inner dimension is renumbered within every 128: packed place 32 s + 16 h + 4 j + b (s, j, b 0 .. 3, h
0 .. 1) is channel 32 j + 8 s + 4 h + b, so that lane j of four holds 32 neighbouring channels and a word of eight FP4
codes is the lane's alone. Weights stay as they are stored; activations are written in packed order when they are
rounded.

An e2m1 code is an e4m3 code once its group's scale is written relative to the largest scale of the row: 2^6 at that
scale, 2^(6 - d) in a group that lies 2^d below. All eight magnitudes are then normal numbers, and exact, for d up to
11. Groups further below count as zero: their weights are at most 2^-12 of the largest that the row can hold. The row's
scale joins once, at the end; a factor for each 128 channels of a row would cost as much as the sum itself.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.bits import from_e4m3, from_e8m0

_TOP_ROWS = 64  # rows of a program that looks for their largest scales
_SPAN = tl.constexpr(11)  # powers of two below the row's largest scale that a group's codes stay exact
# The e4m3 codes of 0, 0.5, 1, 1.5 and of 2, 3, 4, 6 times 2^6; a step in the exponent is 8.
_LOW, _HIGH = tl.constexpr(0x6C686000), tl.constexpr(0x7C787470)
_LOW_STEP, _HIGH_STEP = tl.constexpr(0x08080800), tl.constexpr(0x08080808)
# Eight codes in a word ($2) to two words of four by tables ($3, $4): three bits of a code select a byte, and its
# fourth bit moves to bit 7 from where it is, or from four places below.
_TO_E4M3 = tl.constexpr("""{
.reg .b32 select, shifted, code, sign;
and.b32 select, $2, 0x77777777;
shl.b32 shifted, $2, 4;
prmt.b32 code, $3, $4, select;
prmt.b32 sign, shifted, $2, 0x5140;
lop3.b32 $0, code, sign, 0x80808080, 0xF8;
shr.u32 select, select, 16;
prmt.b32 code, $3, $4, select;
prmt.b32 sign, shifted, $2, 0x7362;
lop3.b32 $1, code, sign, 0x80808080, 0xF8;
}""")


@triton.jit
def packed(codes, ROWS: tl.constexpr):
    """A block [ROWS, 128] of whole groups of channels in packed order."""
    codes = tl.permute(tl.reshape(codes, (ROWS, 4, 4, 2, 4)), (0, 2, 3, 1, 4))  # j, s, h, b to s, h, j, b
    return tl.reshape(codes, (ROWS, 128))


@triton.jit
def _recode(words, low, high, WIDE: tl.constexpr):
    """Words of eight e2m1 codes and the tables of their groups -> two words of four e4m3 codes: the lower, the upper
    four. WIDE: without the GPU's instruction (the interpreter)."""
    if WIDE:
        table = low.to(tl.uint64) | (high.to(tl.uint64) << 32)
        first, second = tl.zeros_like(words), tl.zeros_like(words)
        for code in tl.static_range(8):
            four = words >> (4 * code)
            byte = (table >> ((four & 7) * 8).to(tl.uint64)).to(tl.uint32) & 0x7F | (four & 8) << 4
            if code < 4:
                first |= byte << (8 * code)
            else:
                second |= byte << (8 * code - 32)
        return first, second
    return tl.inline_asm_elementwise(
        _TO_E4M3, "=&r,=&r,r,r,r", [words, low, high], dtype=(tl.uint32, tl.uint32), is_pure=True, pack=1
    )


@triton.jit
def _decode(words, scale, top, ROWS: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr):
    """128 channels of the rows: words uint32 [ROWS, 16] and scale bytes int32 [ROWS, 4] relative to `top` [ROWS] (FP4),
    or words [ROWS, 32] (FP8) -> e4m3 [ROWS, 128] in packed order; FP32 if WIDE."""
    if FORMAT == "fp4":
        below = top[:, None] - scale
        kept = below <= _SPAN
        low = tl.where(kept, _LOW - below * _LOW_STEP, 0).to(tl.uint32)[:, :, None]
        high = tl.where(kept, _HIGH - below * _HIGH_STEP, 0).to(tl.uint32)[:, :, None]
        first, second = _recode(tl.reshape(words, (ROWS, 4, 4)), low, high, WIDE)
        fours = tl.join(first, second)  # [ROWS, j, s, h]
    else:
        fours = tl.reshape(words, (ROWS, 4, 4, 2))
    even = tl.join(fours.to(tl.uint8), (fours >> 16).to(tl.uint8))
    odd = tl.join((fours >> 8).to(tl.uint8), (fours >> 24).to(tl.uint8))
    codes = packed(tl.reshape(tl.join(even, odd), (ROWS, 128)), ROWS)
    if WIDE:
        return from_e4m3(codes)
    return codes.to(tl.float8e4nv, bitcast=True)


@triton.jit
def product(
    x_rows, live, factors, gap, w_rows, s_rows, tops,
    IN: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Weight rows times rounded activation rows, FP32 [ROWS, TOKENS].

    x_rows: pointers [TOKENS] to codes in packed order, zero where not `live`; factors: pointers [TOKENS] to the first
    group's factors, the next group's `gap` further. w_rows, s_rows: pointers [ROWS] to words and scale bytes; tops:
    pointers [ROWS] to the largest of them (FP4).
    """
    steps: tl.constexpr = IN // 128
    per_row: tl.constexpr = 16 if FORMAT == "fp4" else 32
    x_at = x_rows[:, None] + tl.arange(0, 128)[None, :]
    w_at = w_rows[:, None] + tl.arange(0, per_row)[None, :]
    acc = tl.zeros((ROWS, TOKENS), tl.float32)
    if FORMAT == "fp4":
        top = tl.load(tops)
        s_at = s_rows[:, None] + tl.arange(0, 4)[None, :]
        for step in range(steps):
            x = tl.load(x_at + step * 128, mask=live[:, None], other=0.0)
            words = tl.load(w_at + step * per_row).to(tl.uint32, bitcast=True)
            scale = tl.load(s_at + step * 4).to(tl.int32)
            factor = tl.load(factors + step * gap)
            w = _decode(words, scale, top.to(tl.int32), ROWS, FORMAT, WIDE)
            acc += _dot(w, x, WIDE) * factor[None, :]
        # The scale of the row, less the 2^6 that its codes were lifted by.
        acc = acc * (from_e8m0(top) * 0.015625)[:, None]
    else:
        for step in range(steps):
            x = tl.load(x_at + step * 128, mask=live[:, None], other=0.0)
            words = tl.load(w_at + step * per_row).to(tl.uint32, bitcast=True)
            scale = from_e8m0(tl.load(s_rows + step))
            factor = tl.load(factors + step * gap)
            w = _decode(words, words, words, ROWS, FORMAT, WIDE)
            acc += _dot(w, x, WIDE) * (scale[:, None] * factor[None, :])
    return acc


@triton.jit
def _dot(w, x, WIDE: tl.constexpr):
    if WIDE:
        return tl.dot(w, tl.trans(from_e4m3(x)), input_precision="ieee")
    else:
        return tl.dot(w, tl.trans(x))


@triton.jit
def _top(scales, tops, rows, GROUPS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Largest of a row's scale bytes, [rows, GROUPS] -> [rows]."""
    row, group = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (group < GROUPS)[None, :]
    sizes = tl.load(scales + row[:, None] * GROUPS + group[None, :], mask=inside, other=0).to(tl.int32)
    tl.store(tops + row, tl.max(sizes, axis=1).to(tl.uint8), mask=row < rows)


def row_tops(*scales: Tensor) -> Tensor:
    """Largest byte of each row of scale bytes [X, out, groups], all of one shape -> uint8 [len(scales), X, out]."""
    X, out, groups = scales[0].shape
    tops = torch.empty(len(scales), X, out, dtype=torch.uint8, device=scales[0].device)
    for one, top in zip(scales, tops, strict=True):
        _top[(triton.cdiv(X * out, _TOP_ROWS),)](
            one.view(torch.uint8), top, X * out, groups, triton.next_power_of_2(groups), _TOP_ROWS
        )
    return tops
