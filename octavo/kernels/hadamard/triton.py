"""Index queries on a GPU: rotation, Hadamard transform and, where asked for, rounding to FP4, in one launch.

Covers: `rotate_transform`, without gradients. Does not cover: index keys (`octavo.kernels.compress`), other widths than
powers of two from 32 to 128.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.bits import e8m0_of, from_e2m1, from_e8m0, inverse_e8m0, magnitude, to_e2m1
from octavo.kernels.rope.triton import turn

_ROWS = (16, 64)  # of a program where rows are few, and where they are many: a product has at least 16
_MANY = 4096  # rows


@triton.jit
def signs(N: tl.constexpr):
    """H [N, N] with (-1)^popcount(i & j), N up to 256."""
    both = tl.arange(0, N)[:, None] & tl.arange(0, N)[None, :]
    both = both ^ (both >> 4)
    both = both ^ (both >> 2)
    both = both ^ (both >> 1)
    return 1.0 - 2.0 * (both & 1).to(tl.float32)


@triton.jit
def _transform(
    q, cos, sin, out, R, H, scale, P: tl.constexpr, J: tl.constexpr, FP4: tl.constexpr, ROWS: tl.constexpr,
    NARROW: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    n = tl.arange(0, J)[None, :]
    ok = row < R
    x = tl.load(q + row * J + n, mask=ok & (n < J), other=0.0).to(tl.float32)
    x = turn(x, cos, sin, row // H, ok, P, J, 1).to(q.dtype.element_ty)
    if NARROW:  # values of BF16 times +1 and -1 are exact, their sums FP32
        x = tl.dot(x.to(tl.bfloat16), signs(J).to(tl.bfloat16))
    else:
        x = tl.dot(x.to(tl.float32), signs(J), input_precision="ieee")
    x = x * scale
    if FP4:
        x = tl.reshape(x.to(q.dtype.element_ty).to(tl.float32), (ROWS, J // 32, 32))
        code = e8m0_of(tl.max(magnitude(x), axis=2).to(tl.float32, bitcast=True), 6)
        x = from_e2m1(to_e2m1(x * tl.expand_dims(inverse_e8m0(code), 2))) * tl.expand_dims(from_e8m0(code), 2)
        x = tl.reshape(x, (ROWS, J))
    tl.store(out + row * J + n, x.to(out.dtype.element_ty), mask=ok & (n < J))


def rotate_transform(q: Tensor, cos: Tensor, sin: Tensor, *, fp4: bool = False) -> Tensor:
    """q [T, I, J], tables [T, P / 2] -> the last P channels rotated, then J^-1/2 H, then with `fp4` rounded to e2m1
    with a power of two for 32 channels; each step rounded to q's dtype, as the separate operations do.

    Raises ValueError for a width that is no power of two from 32 to 128, or tables that do not fit.
    """
    T, I, J = q.shape
    if J & (J - 1) or not 32 <= J <= 128:
        raise ValueError(f"q has {J} channels; a power of two from 32 to 128 is needed")
    half = cos.shape[-1]
    if tuple(cos.shape) != (T, half) or cos.shape != sin.shape or not 1 <= half <= J // 2:
        raise ValueError(f"cos is {tuple(cos.shape)} and sin {tuple(sin.shape)}; both must be [{T}, 1 to {J // 2}]")
    q = q.contiguous()
    out = torch.empty_like(q)
    if q.numel() == 0:
        return out
    rows = _ROWS[T * I >= _MANY]
    _transform[(triton.cdiv(T * I, rows),)](
        q, cos.contiguous(), sin.contiguous(), out, T * I, I, J**-0.5, P=2 * half, J=J,
        FP4=fp4, ROWS=rows, NARROW=q.is_cuda and q.dtype == torch.bfloat16, num_warps=4,
    )  # fmt: skip
    return out
