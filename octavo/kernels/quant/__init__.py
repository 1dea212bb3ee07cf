"""Small number formats: e4m3, e2m1 and e8m0, for stored weights, for simulation in the graph, and for cache rows.

Contract. Every scale is a power of two, 2^ceil(log2(amax / largest value)), computed exactly from the bits of FP32, so
that no value ever exceeds the range of its format; rounding is to nearest, ties to even. An e8m0 byte b means
2^(b - 127), 255 means NaN. A group that holds NaN or an infinity becomes NaN as a whole, it is never made finite.
Nothing is in place. Everything is computed in FP32; empty leading dimensions give empty results; a wrong width raises
ValueError.

Weights [out, in] (the released checkpoint format; `weights.py`):
    fp8_quantize_blocks(w, block=128) -> (e4m3 [out, in], e8m0 uint8 [ceil(out/block), ceil(in/block)])
    fp8_dequantize_blocks(q, scale, block=128, first_row=0) -> FP32 [out, in]; q may be a run of rows from first_row on
    fp8_round_blocks(w [..., out, in], block=128) -> FP32 of w's shape: what each matrix is after the two above
    fp4_pack(w) -> (int8 [out, in/2], e8m0 uint8 [out, in/32]); byte b holds element 2b in its low half, 2b + 1 above
    fp4_unpack(packed, scale) -> FP32 [out, in]
    fp4_to_fp8(packed, scale, block=128) -> as fp8_quantize_blocks, without loss; ValueError where that is impossible
    Scales are uint8 or float8_e8m0fnu (bytes), or a wider floating dtype (values).

Simulation (the released model's quantisation-aware graph; `ref.py`), x [..., N] -> [..., N] in x's dtype; the gradient
passes straight through; the last group may be shorter:
    simulate_fp8(x, group=64): e4m3, amax at least 1e-4.      simulate_fp4(x, group=32): e2m1, amax at least 6 * 2^-126.

Cache rows [N, width] -> uint8 [N, row_bytes] (`rows.py`); decoding an encoded row gives exactly the simulated values:
    encode_rows_fp8(x, rope_dims), decode_rows_fp8(rows, width, rope_dims): (K-P) e4m3 | P bf16 | e8m0 per 64 channels,
    padded to a multiple of 8 bytes; 584 bytes for 512 channels with 64 rotary ones.
    encode_main_fp4(x, rope_dims), decode_main_fp4(rows, width, rope_dims): (K-P)/2 e2m1 pairs | P e4m3 | e8m0 per 32
    channels of either part, padded to a multiple of 8 bytes; 304 bytes for 512 channels with 64 rotary ones. K - P must
    be even.
    encode_rows_fp4(x), decode_rows_fp4(rows, width): J/2 e2m1 pairs | J/32 e8m0; 68 bytes for 128.
    encode_index_fp8(x), decode_index_fp8(rows, width): J e4m3 | one f32 scale; 132 bytes for 128.
"""

from octavo.kernels.quant.ref import simulate_fp4, simulate_fp8
from octavo.kernels.quant.rows import (
    decode_index_fp8,
    decode_main_fp4,
    decode_rows_fp4,
    decode_rows_fp8,
    encode_index_fp8,
    encode_main_fp4,
    encode_rows_fp4,
    encode_rows_fp8,
)
from octavo.kernels.quant.weights import (
    fp4_pack,
    fp4_to_fp8,
    fp4_unpack,
    fp8_dequantize_blocks,
    fp8_quantize_blocks,
    fp8_round_blocks,
    scale_values,
)

__all__ = [
    "decode_index_fp8",
    "decode_main_fp4",
    "decode_rows_fp4",
    "decode_rows_fp8",
    "encode_index_fp8",
    "encode_main_fp4",
    "encode_rows_fp4",
    "encode_rows_fp8",
    "fp4_pack",
    "fp4_to_fp8",
    "fp4_unpack",
    "fp8_dequantize_blocks",
    "fp8_quantize_blocks",
    "fp8_round_blocks",
    "scale_values",
    "simulate_fp4",
    "simulate_fp8",
]
