"""Small number formats inside Triton kernels. Covers: e4m3, e2m1 and e8m0 decoded and encoded in registers, and BF16
encoded, on a GPU and in Triton's interpreter, which knows no FP8; both give the bits of `octavo.kernels.quant`.
Does not cover: the formats' rules (`octavo.kernels.quant`).
"""

# pyright: reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl
from triton import knobs

_COMPILED = tl.constexpr(not knobs.runtime.interpret)


@triton.jit
def opaque(number):
    """The same int64 numbers, of which the compiler knows nothing.

    Triton 3.6 takes what divides the first of a run of row numbers to divide all of them, and loads rows of odd sizes
    by more bytes at a time than their addresses allow.
    """
    if _COMPILED:
        number = tl.inline_asm_elementwise(
            "mov.b64 $0, $1;", "=l,l", [number], dtype=tl.int64, is_pure=True, pack=1
        )
    return number


@triton.jit
def from_e4m3(code):
    """uint8 e4m3 -> FP32, through FP16, whose subnormals cover those of e4m3; code 0x7f is NaN."""
    wide = code.to(tl.uint16)
    half = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    value = half.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return tl.where((code & 0x7F) == 0x7F, float("nan"), value)


@triton.jit
def from_e8m0(code):
    """uint8 e8m0 -> FP32: 2^(code - 127); 255 is NaN, 0 the subnormal 2^-127."""
    wide = code.to(tl.uint32)
    bits = tl.where(code == 255, 0x7FC00000, tl.where(code == 0, 0x00400000, wide << 23)).to(tl.uint32)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def from_e2m1(code):
    """e2m1 in the low 4 bits of an integer tensor -> FP32: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives."""
    wide = code.to(tl.uint16)
    half = ((wide & 8) << 12) | ((wide & 7) << 9)
    return half.to(tl.float16, bitcast=True).to(tl.float32) * 16384.0


@triton.jit
def magnitude(x):
    """FP32 -> int32: the bits of |x|. They order as the sizes do, with infinity and NaN on top, so that the largest of
    them is NaN where one value is: `tl.max` of the values themselves would drop it."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def e8m0_of(amax, LARGEST: tl.constexpr):
    """FP32 group maxima -> uint8: the byte of 2^ceil(log2(amax / LARGEST)); LARGEST is 448 (e4m3) or 6 (e2m1).

    Maxima below the floors of `octavo.kernels.quant` count as the floor (1e-4 and 6 * 2^-126); NaN and infinity give
    255. `amax` comes from `magnitude` where NaN must survive.
    """
    tl.static_assert(LARGEST == 448 or LARGEST == 6, "LARGEST must be 448 or 6")
    FLOOR: tl.constexpr = 0x38D1B717 if LARGEST == 448 else 0x01C00000
    TOP: tl.constexpr = 0x43E00000 if LARGEST == 448 else 0x40C00000  # LARGEST itself
    bits = tl.maximum(magnitude(amax), FLOOR)
    code = (bits >> 23) - (TOP >> 23) + 127 + ((bits & 0x7FFFFF) > (TOP & 0x7FFFFF)).to(tl.int32)
    return tl.where(bits >= 0x7F800000, 255, code).to(tl.uint8)


@triton.jit
def inverse_e8m0(code):
    """uint8 e8m0 -> FP32: 2^(127 - code), what a group is multiplied by before it is rounded; 255 is NaN."""
    wide = code.to(tl.uint32)
    bits = tl.where(code == 255, 0x7FC00000, tl.where(code == 254, 0x00400000, (254 - wide) << 23)).to(tl.uint32)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def to_e4m3(x):
    """FP32 -> uint8 e4m3, to nearest, ties to even; larger than 448 saturates, NaN gives 0x7f with its sign."""
    bits = x.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - (120 << 3)  # the bias falls from 127 to 7
    # Below 2^-6 the step is 2^-9, which is the last place of numbers just above 2^14: the sum rounds there.
    shifted = tl.minimum(size, 0x3C800000).to(tl.float32, bitcast=True) + 16384.0
    small = shifted.to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(size < 0x3C800000, small, tl.minimum(normal, 0x7E))
    code = tl.where(size > 0x7F800000, 0x7F, code)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def to_e2m1(x):
    """FP32 -> uint8 with an e2m1 code in its low 4 bits, to nearest, ties to the even code; larger than 6 saturates,
    NaN gives 0."""
    size = tl.abs(x)
    code = (size > 0.25).to(tl.int32) + (size >= 0.75).to(tl.int32) + (size > 1.25).to(tl.int32)
    code += (size >= 1.75).to(tl.int32) + (size > 2.5).to(tl.int32) + (size >= 3.5).to(tl.int32)
    code += (size > 5.0).to(tl.int32)
    sign = (x.to(tl.int32, bitcast=True) >> 28) & 8
    return tl.where(x == x, code | sign, 0).to(tl.uint8)


@triton.jit
def to_bf16(x):
    """FP32 -> int16 with the bits of BF16, to nearest, ties to even; NaN gives a quiet NaN with its sign."""
    bits = x.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    code = (size + 0x7FFF + ((size >> 16) & 1)) >> 16  # a carry past the largest number gives infinity
    code = tl.where(size > 0x7F800000, 0x7FC0, code)
    return (code | ((bits >> 16) & 0x8000)).to(tl.int16)
