"""Rotary position embedding on adjacent channel pairs of the last P channels.

Contract: `inverse_frequencies(*, base, dims, factor, original, beta_fast, beta_slow) -> [P/2]` FP64:
w_i = base^(-2i/P), blended by YaRN's ramp when `factor` > 1 and `original` > 0 (no amplitude factor).
`rope_table(positions [...], inv_freq [P/2], *, dtype) -> (cos, sin)`, each [..., P/2]: angles are formed in FP64, so
that positions up to 2^20 keep their phase, and stored in `dtype` (default FP32).
`rotate(x [..., N], cos, sin, *, inverse=False) -> [..., N]`: channels 0..N-P-1 pass unchanged, pair (2i, 2i+1) of the
last P channels turns by the angle i; cos and sin broadcast against x's leading dimensions; `inverse` turns back.
`norm_rotate(x, weight or None, cos, sin, *, eps)`: `rotate` of `rmsnorm` of x.
Arithmetic in the table's dtype, one rounding to x's. Empty input gives an empty result. Not in place.

Bodies: `loops` (CPU, FP32, no gradient), `triton` (training on a GPU; BF16, FP16 or FP32 with an FP32 table, N even and
up to 8,192, weight [N]), `ref` for everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.rmsnorm import rmsnorm
from octavo.kernels.rope import loops, ref
from octavo.kernels.rope.ref import inverse_frequencies

_TRITON_WIDTH = 8192


def rope_table(positions: Tensor, inv_freq: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """See the package docstring for the contract."""
    if dtype == torch.float32 and positions.numel() <= loops.FEW and dispatch.loops_on_cpu(positions, of=torch.int64):
        return loops.table(positions, inv_freq)
    return ref.rope_table(positions, inv_freq, dtype=dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool = False) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(x) and loops.fits(x, cos):
        return loops.rotate(x, cos, sin, inverse=inverse)
    if dispatch.trains_in_triton(x, "rope") and _fits_triton(x, cos):
        from octavo.kernels.rope import triton  # there where a GPU is

        return triton.rotate(*_by_token(x, cos, sin), inverse=inverse).view(x.shape)
    return ref.rotate(x, cos, sin, inverse=inverse)


def norm_rotate(x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, *, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    if dispatch.loops_on_cpu(x) and loops.fits(x, cos) and (weight is None or weight.dtype == x.dtype):
        return loops.norm_rotate(x, weight, cos, sin, eps=eps)
    if dispatch.trains_in_triton(x, "rope") and _fits_triton(x, cos) and (weight is None or weight.dim() == 1):
        from octavo.kernels.rope import triton  # there where a GPU is

        rows, *table = _by_token(x, cos, sin)
        return triton.norm_rotate(rows, weight, *table, eps=eps).view(x.shape)
    if dispatch.trains_on_gpu(x):
        return ref.norm_rotate(x, weight, cos, sin, eps=eps)
    return rotate(rmsnorm(x, weight, eps), cos, sin)


def _fits_triton(x: Tensor, cos: Tensor) -> bool:
    N = x.shape[-1]
    return x.dtype in dispatch.TRITON_FLOATS and cos.dtype == torch.float32 and N % 2 == 0 and 2 <= N <= _TRITON_WIDTH


def _by_token(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [T, H, N] that share a table [T, 1, P / 2] as they are; all else as rows [R, N] with a table [R, P / 2]."""
    if x.dim() == 3 and cos.shape[:-1] == (len(x), 1):
        return x, cos, sin
    cos, sin = (t.expand(*x.shape[:-1], t.shape[-1]).reshape(-1, t.shape[-1]) for t in (cos, sin))
    return x.reshape(-1, x.shape[-1]), cos, sin


__all__ = ["inverse_frequencies", "norm_rotate", "rope_table", "rotate"]
