"""Rows of the cache inside Triton kernels: where they lie, and their values in registers.

Covers: BF16, FP32, FP8 and FP4 rows (`octavo.kernels.quant`) of a ring, a paged store, or plain tensors [B, N, K], and
products with them; the ring beside FP4 entries holds FP8 rows. A row is a tile of W <= 256 channels, or two of them for
K > 256: one tile of 512 would hold twice the row pointers in every thread. Channels from K on are zero. Does not cover:
which rows a query sees (`triton_forward`).
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.bits import from_e2m1, from_e4m3, from_e8m0, opaque

NONE, CAUSAL, PICKED, LISTED, MARKED = 0, 1, 2, 3, 4
_NONE, _PICKED, _MARKED = tl.constexpr(NONE), tl.constexpr(PICKED), tl.constexpr(MARKED)
UNSEEN = 1 << 30  # marks in a list of rows; the sign bit marks a row of the window
_UNSEEN = tl.constexpr(UNSEEN)


@triton.jit
def load_rows(row, ok, FIRST: tl.constexpr, W: tl.constexpr, STOP: tl.constexpr):
    """Channels FIRST .. FIRST + W - 1 of rows at pointers `row` [N] -> [N, W]; zero from STOP on and where not `ok`."""
    c = FIRST + tl.arange(0, W)
    mask = ok[:, None]
    if FIRST + W > STOP:
        mask = mask & (c < STOP)[None, :]
    return tl.load(row[:, None] + c[None, :], mask=mask, other=0.0)


@triton.jit
def load_queries(row, ok, K: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr):
    """Rows of plain numbers at pointers `row` [M] -> two tiles [M, W] in DOT (K <= W: the first one twice).

    DOT is the queries' own type on a GPU: Triton keeps a left operand in shared memory only as it was loaded, and
    would reload a cast one into registers for every tile of keys.
    """
    x0 = load_rows(row, ok, 0, W, K).to(DOT)
    x1 = x0
    if K > W:
        x1 = load_rows(row, ok, W, W, K).to(DOT)
    return x0, x1


@triton.jit
def store_rows(row, ok, x0, x1, K: tl.constexpr, W: tl.constexpr):
    """Write tiles [M, W] to rows at pointers `row` [M], in their dtype, where `ok`."""
    c = tl.arange(0, W)
    at = row[:, None] + c[None, :]
    tl.store(at, x0.to(row.dtype.element_ty), mask=ok[:, None] & (c < K)[None, :])
    if K > W:
        tl.store(at + W, x1.to(row.dtype.element_ty), mask=ok[:, None] & (W + c < K)[None, :])


@triton.jit
def products(q0, q1, x0, x1, K: tl.constexpr, W: tl.constexpr):
    """Queries [M] times rows [N] -> FP32 [M, N]."""
    s = tl.dot(q0, tl.trans(x0), input_precision="ieee")
    if K > W:
        s = tl.dot(q1, tl.trans(x1), s, input_precision="ieee")
    return s


@triton.jit
def add_rows(p, x0, x1, a0, a1, K: tl.constexpr, W: tl.constexpr):
    """a + p [M, N] times rows [N], tile by tile; a1 stays as it is for K <= W."""
    a0 = tl.dot(p, x0, a0, input_precision="ieee")
    if K > W:
        a1 = tl.dot(p, x1, a1, input_precision="ieee")
    return a0, a1


@triton.jit
def zero_rows(M: tl.constexpr, K: tl.constexpr, W: tl.constexpr):
    """Sums [M] to begin with; the second is the smallest of tiles for K <= W."""
    return tl.zeros((M, W), tl.float32), tl.zeros((M, W if K > W else 1), tl.float32)


@triton.jit
def _row(base, other, is_near, number, ROW: tl.constexpr, ALIGN: tl.constexpr, dtype: tl.constexpr):
    """Pointers of `dtype` to rows `number` [N] of ROW bytes, in `base` where is_near, else in `other`.

    ALIGN divides every row's address, which Triton 3.9 does not find out by itself: it would load by single values.
    Bases are cast before they spread to tiles: Triton 3.6 fails to compile casts of tiles of pointers.
    """
    kind: tl.constexpr = tl.pointer_type(dtype)
    start = tl.where(is_near, base.to(kind), other.to(kind))
    return tl.multiple_of(start + opaque(number) * (ROW * 8 // dtype.primitive_bitwidth), [ALIGN])


@triton.jit
def _e4m3(code, NATIVE: tl.constexpr, DOT: tl.constexpr):
    """uint8 e4m3 -> DOT, without their scales."""
    if NATIVE:  # e4m3 is exact in FP16
        return code.to(tl.float8e4nv, bitcast=True).to(tl.float16).to(DOT)
    return from_e4m3(code).to(DOT)


@triton.jit
def _joined(value, rope, FIRST: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr, W: tl.constexpr):
    """`rope` [N, ROPE] in its place behind PLAIN channels of the tile `value` [N, W] from channel FIRST on, zero behind
    it. Repeated over the tile, it falls into its place, since ROPE divides PLAIN."""
    N: tl.constexpr = rope.shape[0]
    spread = tl.reshape(tl.broadcast_to(rope[:, None, :], (N, W // ROPE, ROPE)), (N, W))
    c = FIRST + tl.arange(0, W)[None, :]
    value = tl.where(c < PLAIN, value, spread)
    if FIRST + W > PLAIN + ROPE:
        value = tl.where(c < PLAIN + ROPE, value, 0.0)
    return value


@triton.jit
def _decode(codes, ropes, scales, ok, FIRST: tl.constexpr, NATIVE: tl.constexpr, PLAIN: tl.constexpr,
            ROPE: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr):  # fmt: skip
    """One tile of FP8 rows, from channel FIRST on. `scales` [N]: the e8m0 bytes of a row as one word."""
    N: tl.constexpr = scales.shape[0]
    value = _e4m3(load_rows(codes, ok, FIRST, W, PLAIN), NATIVE, DOT)
    G: tl.constexpr = (W + 63) // 64
    place = 8 * (FIRST // 64 + tl.arange(0, G))
    factor = from_e8m0(((scales[:, None] >> place[None, :]) & 255).to(tl.uint8)).to(DOT)
    value = tl.reshape(tl.reshape(value, (N, G, W // G)) * factor[:, :, None], (N, W))
    if (ROPE > 0) & (FIRST + W > PLAIN):
        value = _joined(value, load_rows(ropes, ok, 0, ROPE, ROPE).to(DOT), FIRST, PLAIN, ROPE, W)
    return value


@triton.jit
def _decode_fp4(codes, words, ok, FIRST: tl.constexpr, NATIVE: tl.constexpr, PLAIN: tl.constexpr,
                ROPE: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr):  # fmt: skip
    """One tile of FP4 rows, from channel FIRST on. `codes`: their bytes, `words`: their scales, eight a word, which are
    those of 256 channels and so of one tile."""
    N: tl.constexpr = ok.shape[0]
    G: tl.constexpr = (W + 31) // 32
    pair = load_rows(codes, ok, FIRST // 2, W // 2, PLAIN // 2)
    word = tl.load(words + FIRST // 256, mask=ok, other=0)
    factor = from_e8m0(((word[:, None] >> (8 * tl.arange(0, G))[None, :]) & 255).to(tl.uint8))[:, :, None]
    low = tl.reshape(from_e2m1(pair & 15), (N, G, W // (2 * G))) * factor
    high = tl.reshape(from_e2m1(pair >> 4), (N, G, W // (2 * G))) * factor
    value = tl.reshape(tl.join(low, high), (N, W)).to(DOT)
    if (ROPE > 0) & (FIRST + W > PLAIN):
        R: tl.constexpr = (ROPE + 31) // 32
        scale = load_rows(codes + PLAIN // 2 + ROPE + (PLAIN + 31) // 32, ok, 0, R, R)
        rope = _e4m3(load_rows(codes + PLAIN // 2, ok, 0, ROPE, ROPE), NATIVE, DOT)
        rope = tl.reshape(rope, (N, R, ROPE // R)) * from_e8m0(scale).to(DOT)[:, :, None]
        value = _joined(value, tl.reshape(rope, (N, ROPE)), FIRST, PLAIN, ROPE, W)
    return value


@triton.jit
def _read_fp8(base, other, is_near, number, ok, NATIVE: tl.constexpr, ROW: tl.constexpr, ALIGN: tl.constexpr,
              PLAIN: tl.constexpr, ROPE: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr):  # fmt: skip
    codes = _row(base, other, is_near, number, ROW, ALIGN, tl.uint8)
    ropes = _row(base, other, is_near, number, ROW, ALIGN, tl.bfloat16) + PLAIN // 2
    words = _row(base, other, is_near, number, ROW, ALIGN, tl.uint64) + (PLAIN + 2 * ROPE) // 8
    scales = tl.load(words, mask=ok, other=0)
    x0 = _decode(codes, ropes, scales, ok, 0, NATIVE, PLAIN, ROPE, W, DOT)
    x1 = x0
    if PLAIN + ROPE > W:
        x1 = _decode(codes, ropes, scales, ok, W, NATIVE, PLAIN, ROPE, W, DOT)
    return x0, x1


@triton.jit
def _read_fp4(base, number, ok, NATIVE: tl.constexpr, ROW: tl.constexpr, ALIGN: tl.constexpr, PLAIN: tl.constexpr,
              ROPE: tl.constexpr, W: tl.constexpr, DOT: tl.constexpr):  # fmt: skip
    codes = _row(base, base, ok, number, ROW, ALIGN, tl.uint8)
    words = _row(base, base, ok, number, ROW, ALIGN, tl.uint64) + (PLAIN // 2 + ROPE) // 8
    x0 = _decode_fp4(codes, words, ok, 0, NATIVE, PLAIN, ROPE, W, DOT)
    x1 = x0
    if PLAIN + ROPE > W:
        x1 = _decode_fp4(codes, words, ok, W, NATIVE, PLAIN, ROPE, W, DOT)
    return x0, x1


@triton.jit
def read_rows(base, other, is_near, number, ok, FORMAT: tl.constexpr, NATIVE: tl.constexpr, ROW: tl.constexpr,
              ALIGN: tl.constexpr, PLAIN: tl.constexpr, ROPE: tl.constexpr, W: tl.constexpr,
              DOT: tl.constexpr):  # fmt: skip
    """Rows `number` [N] (int64) of the bytes `base` (where is_near) or `other` -> two tiles [N, W] in DOT.

    Zero where not `ok`, whatever lies there. FP8 rows are PLAIN e4m3 | ROPE bf16 | e8m0 bytes of groups of 64. With FP4
    the rows of `other` are PLAIN e2m1 | ROPE e4m3 | e8m0 bytes of groups of 32, and those of `base` FP8 rows; ROW and
    ALIGN are those of `other`.
    """
    K: tl.constexpr = PLAIN + ROPE
    if FORMAT == "fp8":
        x0, x1 = _read_fp8(base, other, is_near, number, ok, NATIVE, ROW, ALIGN, PLAIN, ROPE, W, DOT)
    elif FORMAT == "fp4":
        x0, x1 = _read_fp4(other, number, ok & (is_near == 0), NATIVE, ROW, ALIGN, PLAIN, ROPE, W, DOT)
        near = ok & is_near
        if tl.max(near.to(tl.int32), 0) > 0:  # a few tiles of a query's; FP8 rows have 8 bytes of scales
            y0, y1 = _read_fp8(base, base, near, number, near, NATIVE, K + ROPE + 8, 8, PLAIN, ROPE, W, DOT)
            x0 = tl.where(near[:, None], y0, x0)
            x1 = tl.where(near[:, None], y1, x1)
    else:
        row = _row(base, other, is_near, number, ROW, ALIGN, tl.bfloat16 if FORMAT == "bf16" else tl.float32)
        x0 = load_rows(row, ok, 0, W, K).to(DOT)
        x1 = x0
        if K > W:
            x1 = load_rows(row, ok, W, W, K).to(DOT)
    return x0, x1


@triton.jit
def entry_rows(b, number, seen, table, pages, STORE, PER_PAGE: tl.constexpr):
    """Where entries `number` [N] of sequence b lie: by pages, or (PER_PAGE 0) in runs of STORE rows."""
    if PER_PAGE > 0:
        page = tl.load(table + b.to(tl.int64) * pages + number // PER_PAGE, mask=seen, other=0)
        row = page * PER_PAGE + number % PER_PAGE
    else:
        row = b * STORE + number
    return row


@triton.jit
def locate(j, near, total, lo, b, t, table, picks, RING, STORE, pages, picked, shift,
           SELECTION: tl.constexpr, DENSE: tl.constexpr, PER_PAGE: tl.constexpr):  # fmt: skip
    """Keys j of a query's list: window tokens lo .. lo + near - 1, then entries up to `total` keys.

    -> (row number int64, whether in the window, whether an entry, token or entry number). RING are the window rows of
    a sequence, token t at t % RING, or (DENSE) at t - shift. MARKED: the list begins with tokens of before the window,
    which may not exist (`whole_tiles`).
    """
    is_near = j < near
    if SELECTION == _MARKED:
        is_near = is_near & (lo + j >= shift)
    number = j - near
    far = (j >= near) & (j < total)
    if SELECTION == _PICKED:
        number = tl.load(picks + t.to(tl.int64) * picked + number, mask=far, other=-1).to(tl.int32)
        far = far & (number >= 0)
    token = lo + j
    row = b * RING + (token - shift if DENSE else token & (RING - 1))
    if SELECTION != _NONE:
        row = tl.where(is_near, row, entry_rows(b, number, far, table, pages, STORE, PER_PAGE))
    return row.to(tl.int64), is_near, far, tl.where(is_near, token, number)


@triton.jit
def listed(list_of_rows, t, j, width):
    """Keys j of token t from the list that `list_kernel` made -> as `locate`, and all rows can be read."""
    code = tl.load(list_of_rows + t.to(tl.int64) * width + j)
    seen, in_window = (code & _UNSEEN) == 0, code < 0
    return (code & (_UNSEEN - 1)).to(tl.int64), in_window, seen


def tile_width(K: int) -> int:
    """W for rows of K channels."""
    return max(16, min(256, triton.next_power_of_2(K)))


def alignment(*rows: Tensor) -> int:
    """What, up to 16, divides the address of every row of these contiguous tensors of bytes."""
    return math.gcd(16, *(x.shape[-1] for x in rows), *(x.data_ptr() for x in rows))
