"""Small number formats inside Triton kernels. Covers: e4m3, e2m1 and e8m0 decoded in registers, on a GPU and in
Triton's interpreter, which knows no FP8. Does not cover: the formats' rules (`octavo.kernels.quant`).
"""

from __future__ import annotations

import triton
import triton.language as tl


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
