"""Products with small-format weights inside Triton kernels: decoding in registers, in the order the matrix units read.

Covers: `product`, a block of weight rows times a block of activation rows, for dense, FP8 and FP4 weights, `pack` and
`place`, the packed order, and `ordered_sum`, which adds up partial results. Does not cover: grids, epilogues
(`linear.triton`, `experts.triton`).

A lane of the matrix units wants pairs of neighbouring weights from all over a row, memory wants 16 bytes in one place.
Both get their way when the inner dimension is renumbered within every 128: packed place 8 m + 2 j + h (m 0 .. 15, j 0
.. 3, h 0 .. 1) is channel 32 j + 2 m + h, so that lane j of four holds 32 neighbouring channels. Weights stay as they
are stored; activations are read through `place`, or were written in packed order.

A pair of codes becomes a pair of BF16 by shifts, too small by 2^126 (e2m1) or 2^120 (e4m3), and one multiplication
brings it to 2^-64 times its value, exactly, for scales from 2^-60 to 2^65; `product` takes the 2^64 back in FP32. A
scale of NaN gives NaN, a larger one infinity or NaN. The e4m3 code of NaN itself reads as 480: quantisers put the NaN
in the scale. The multiplication needs compute capability 9.0.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

BLOCK = 128  # channels that are renumbered together
LIFT = tl.constexpr(2.0**64)

PROGRAMS = 264  # two for each of the 132 multiprocessors of an H100: below that some stand idle


@dataclass(frozen=True)
class Tiles:
    """Block sizes of a product: weight rows and tokens of a program, channels of a step, warps and stages."""

    rows: int
    tokens: int
    width: int
    warps: int
    stages: int


def depends(device: torch.device) -> bool:
    """Whether a kernel may start before the one in front of it has ended, and wait for it itself."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


@triton.jit
def place(packed):
    """Channel that lies in the packed place; both count from 0 along the whole row."""
    # In this form the compiler sees that two channels at a time lie together, and copies them in one go.
    return packed // 128 * 128 + ((packed // 2 % 4) * 16 + packed // 8 % 16) * 2 + packed % 2


@triton.jit
def _pair_e2m1(byte):
    """Two codes in the low byte -> two BF16 in one word, 2^-126 times their values."""
    return ((byte * 0x00040040) & 0x01C001C0) | ((byte * 0x01001000) & 0x80008000)


@triton.jit
def _pair_e4m3(half):
    """Two codes in the low half -> two BF16 in one word, 2^-120 times their values."""
    spread = (half | (half << 8)) & 0x00FF00FF
    return ((spread << 4) & 0x07F007F0) | ((spread << 8) & 0x80008000)


@triton.jit
def decode(words, scale, ROWS: tl.constexpr, WIDTH: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr):
    """Stored words uint32 [ROWS, WIDTH / 8 or / 4] and scale bytes [ROWS, WIDTH / 32 or / 128] -> [ROWS, WIDTH] in
    packed order, 2^-64 times their values; BF16, or FP32 if WIDE (the interpreter)."""
    blocks: tl.constexpr = WIDTH // 128
    code = scale.to(tl.uint32)
    if FORMAT == "fp4":
        even = tl.join(_pair_e2m1(words & 0xFF), _pair_e2m1((words >> 16) & 0xFF))
        odd = tl.join(_pair_e2m1((words >> 8) & 0xFF), _pair_e2m1(words >> 24))
        pairs = tl.join(even, odd)
        factor = tl.where(code == 255, 0x7FC0, tl.minimum(code + 62, 255) << 7).to(tl.uint32)
        factor = tl.reshape(factor, (ROWS, blocks, 4))[:, :, None, :]
    else:
        pairs = tl.join(_pair_e4m3(words & 0xFFFF), _pair_e4m3(words >> 16))
        factor = tl.where(code == 255, 0x7FC0, tl.minimum(code + 56, 255) << 7).to(tl.uint32)
        factor = factor[:, :, None, None]
    pairs = tl.permute(tl.reshape(pairs, (ROWS, blocks, 4, 16)), (0, 1, 3, 2))
    if WIDE:
        factor = (factor << 16).to(tl.float32, bitcast=True)
        low = (pairs << 16).to(tl.float32, bitcast=True) * factor
        high = (pairs & 0xFFFF0000).to(tl.float32, bitcast=True) * factor
        halves = tl.join(low, high)
    else:
        pairs, factor = tl.broadcast(pairs, factor * 0x00010001)
        # One instruction for both halves; written as two products it is three times as many.
        pairs = tl.inline_asm_elementwise(
            "mul.bf16x2 $0, $1, $2;", "=r,r,r", [pairs, factor], dtype=tl.uint32, is_pure=True, pack=1
        )
        halves = tl.join(pairs.to(tl.uint16), (pairs >> 16).to(tl.uint16)).to(tl.bfloat16, bitcast=True)
    return tl.reshape(halves, (ROWS, WIDTH))


@triton.jit
def product(
    x_rows, live, w_rows, s_rows, start, steps,
    ROWS: tl.constexpr, TOKENS: tl.constexpr, WIDTH: tl.constexpr, FORMAT: tl.constexpr, PACKED: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Weight rows times activation rows, FP32 [ROWS, TOKENS], over WIDTH * steps channels from start * WIDTH on.

    x_rows: pointers [TOKENS] to the rows, zero where not `live`; w_rows: pointers [ROWS], to x's type (dense), or to
    uint32 words; s_rows: pointers [ROWS] to the rows' scale bytes (unused if dense). PACKED: x is in packed order.
    """
    inner = tl.arange(0, WIDTH)
    acc = tl.zeros((ROWS, TOKENS), tl.float32)
    if FORMAT == "dense":
        x_at = x_rows[:, None] + start * WIDTH + inner[None, :]
        w_at = w_rows[:, None] + start * WIDTH + inner[None, :]
        for step in range(steps):
            x = tl.load(x_at + step * WIDTH, mask=live[:, None], other=0.0)
            w = tl.load(w_at + step * WIDTH)
            if WIDE:
                acc = tl.dot(w.to(tl.float32), tl.trans(x.to(tl.float32)), acc, input_precision="ieee")
            else:
                acc = tl.dot(w, tl.trans(x), acc)
    else:
        per_word: tl.constexpr = 8 if FORMAT == "fp4" else 4
        per_scale: tl.constexpr = 32 if FORMAT == "fp4" else 128
        channel = inner if PACKED else place(inner)
        x_at = x_rows[:, None] + start * WIDTH + channel[None, :]
        w_at = w_rows[:, None] + start * (WIDTH // per_word) + tl.arange(0, WIDTH // per_word)[None, :]
        s_at = s_rows[:, None] + start * (WIDTH // per_scale) + tl.arange(0, WIDTH // per_scale)[None, :]
        for step in range(steps):
            x = tl.load(x_at + step * WIDTH, mask=live[:, None], other=0.0)
            words = tl.load(w_at + step * (WIDTH // per_word)).to(tl.uint32, bitcast=True)
            scale = tl.load(s_at + step * (WIDTH // per_scale))
            w = decode(words, scale, ROWS, WIDTH, FORMAT, WIDE)
            if WIDE:
                acc = tl.dot(w, tl.trans(x.to(tl.float32)), acc, input_precision="ieee")
            else:
                acc = tl.dot(w, tl.trans(x), acc)
        acc = acc * LIFT
    return acc


@triton.jit
def _pack(x, out, N: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * N
    packed = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = packed < N
    tl.store(out + row + packed, tl.load(x + row + place(packed), mask=inside), mask=inside)


def pack(x: Tensor) -> Tensor:
    """x [T, N], N a multiple of 128 -> the same rows in packed order."""
    T, N = x.shape
    out = torch.empty_like(x)
    if T:
        _pack[(T, triton.cdiv(N, 1024))](x, out, N, 1024)
    return out


@triton.jit(do_not_specialize=["rows"])
def _sum(parts, chosen, more, out, rows, width, PARTS: tl.constexpr, STRIDE, NEXT, CHOSEN: tl.constexpr,
         MORE: tl.constexpr, DEPENDENT: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    if DEPENDENT:
        gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = column < width
    total = tl.zeros((WIDTH,), tl.float32)
    for part in tl.static_range(PARTS):  # unrolled: the loads wait together
        counted = inside
        if CHOSEN:
            counted = column < tl.where(tl.load(chosen + row * PARTS + part) >= 0, width, 0)
        total += tl.load(parts + row * STRIDE + part * NEXT + column, mask=counted, other=0.0).to(tl.float32)
    if MORE:
        total += tl.load(more + row * width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, total.to(out.dtype.element_ty), mask=inside)


def ordered_sum(
    parts: Tensor, dtype: torch.dtype, *, chosen: Tensor | None = None, more: Tensor | None = None,
    dependent: bool = False,
) -> Tensor:  # fmt: skip
    """parts [T, A, D] (any strides of T and A) -> [T, D] in `dtype`: summed in FP32 in the order of A, so that the same
    input gives the same bits. Parts whose `chosen` [T, A] is negative count as zero; `more` [T, D] is added last.
    `dependent`: the kernel that writes `parts`, the last one on the stream, lets this one start before it has ended
    (see `depends`)."""
    T, A, D = parts.shape
    out = torch.empty(T, D, dtype=dtype, device=parts.device)
    if T:
        block = min(256, triton.next_power_of_2(D))
        _sum[(T, triton.cdiv(D, block))](
            parts, parts if chosen is None else chosen, parts if more is None else more, out, T, D, A, parts.stride(0),
            parts.stride(1), chosen is not None, more is not None, dependent, block,
            **({"launch_pdl": True} if dependent else {}),
        )  # fmt: skip
    return out
