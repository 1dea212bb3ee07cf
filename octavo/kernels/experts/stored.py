"""FP4 weights unpacked on use, and single experts of single tokens, whose weights come one after the other.

Covers: `unpack_fp4`, `plain_expert`, `fp4_expert`. FP32 on the CPU, no gradient. Does not cover: where weights come
from (`octavo.model.offload_store`), other formats (`octavo.kernels.quant`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.compiled import in_halves, loop, part
from octavo.kernels.experts.loops import add_expert, listed_experts
from octavo.kernels.linear.loops import dot
from octavo.kernels.quant import scale_values
from octavo.kernels.quant.weights import FP4_GROUP, fp4_values

Packed = tuple[Tensor, Tensor]
"""Packed pairs [R, N/2] (int8 or uint8) and their e8m0 bytes [R, N/32] (uint8)."""

_LARGE = 1 << 17  # bytes of a matrix from which a second thread earns its waking
_ONE = np.zeros((1, 1), dtype=np.int64)


def unpack_fp4(packed: Tensor, scale: Tensor, out: Tensor) -> None:
    """Values of packed e2m1 pairs [R, N/2] (int8 or uint8) times e8m0 bytes [R, N/32] (uint8) into out [R, N] FP32.

    Bit by bit what `octavo.kernels.quant.fp4_unpack` gives. ValueError for shapes that do not belong together.
    """
    rows, width = out.shape
    fits = tuple(packed.shape) == (rows, width // 2) and tuple(scale.shape) == (rows, width // FP4_GROUP)
    if not fits or width % FP4_GROUP:
        shapes = f"packed {list(packed.shape)} and scale {list(scale.shape)}"
        raise ValueError(f"{shapes} do not make {[rows, width]}")
    codes, (factors, pairs) = packed.view(torch.uint8).numpy(), _tables()
    _shared(partial(_unpack, codes, scale.numpy(), factors, pairs, out.numpy()), rows, codes.size)


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """FP32 factor of every e8m0 byte [256], and the two values of every byte of codes [256, 2]."""
    every = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    return scale_values(every).numpy(), fp4_values(every.unsqueeze(1)).contiguous().numpy()


@part
def _row(codes, scale, factors, pairs, out):
    for g in range(len(scale)):
        factor = factors[scale[g]]
        for b in range(16 * g, 16 * g + 16):
            code = codes[b]
            out[2 * b] = pairs[code, 0] * factor
            out[2 * b + 1] = pairs[code, 1] * factor


@loop
def _unpack(codes, scale, factors, pairs, out, start, stop):
    for r in range(start, stop):
        _row(codes[r], scale[r], factors, pairs, out[r])


def fp4_expert(
    x: Tensor, w1: Packed, w3: Packed, w2: Packed, *, share: float, limit: float | None, out: Tensor
) -> None:
    """As `plain_expert`, bit by bit, of weights in packed pairs and e8m0 bytes: one row at a time is unpacked, into the
    processor's nearest cache, and multiplied there."""
    library = native.library()
    if library is not None:
        factors, values = _tables()
        given = [x.contiguous(), *[part.contiguous() for pair in (w1, w3, w2) for part in pair]]
        library.octavo_step_expert_fp4(
            torch.get_num_threads(), x.numel(), len(w1[0]), math.inf if limit is None else limit, share,
            *[part.data_ptr() for part in given], values.ctypes.data, factors.ctypes.data, out.data_ptr(),
        )  # fmt: skip
        return
    tables, given = _tables(), x.numpy()
    (c1, s1), (c3, s3), (c2, s2) = ((c.view(torch.uint8).numpy(), s.numpy()) for c, s in (w1, w3, w2))
    bound, hidden = np.float32(math.inf if limit is None else limit), np.empty(len(c1), dtype=np.float32)
    _shared(partial(_into, given, c1, s1, c3, s3, *tables, np.float32(share), bound, hidden), len(c1), c1.size)
    _shared(partial(_out_of, hidden, c2, s2, *tables, out.numpy()), len(c2), c2.size)


def _shared(function: Callable[[int, int], None], steps: int, nbytes: int) -> None:
    """On all threads where there is work for them."""
    if nbytes < _LARGE:
        function(0, steps)
    else:
        in_halves(function, steps)


@loop
def _into(x, c1, s1, c3, s3, factors, pairs, weight, limit, hidden, start, stop):
    row = np.empty(len(x), dtype=np.float32)
    for f in range(start, stop):
        _row(c1[f], s1[f], factors, pairs, row)
        gate = min(dot(row, x), limit)
        _row(c3[f], s3[f], factors, pairs, row)
        up = max(min(dot(row, x), limit), -limit)
        hidden[f] = gate / (np.float32(1.0) + np.float32(math.exp(-gate))) * up * weight


@loop
def _out_of(hidden, c2, s2, factors, pairs, out, start, stop):
    row = np.empty(len(hidden), dtype=np.float32)
    for d in range(start, stop):
        _row(c2[d], s2[d], factors, pairs, row)
        out[d] += dot(row, hidden)


def plain_expert(
    x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, *, share: float, limit: float | None, out: Tensor
) -> None:
    """Add to out [D] the output of one expert (w1, w3 [F, D], w2 [D, F]) for one token x [D], weighted by `share`.

    It is the code that `octavo.kernels.experts` runs over the chosen experts of a handful of tokens: called for each in
    their order, the sums are the same bit by bit. All FP32 and contiguous; `limit` as there.
    """
    if native.library() is not None:
        return add_expert(x, w1, w3, w2, share=share, limit=limit, out=out)
    gate, up, down = (weight.unsqueeze(0).numpy() for weight in (w1, w3, w2))
    shares, bound = np.full((1, 1), share, dtype=np.float32), np.float32(math.inf if limit is None else limit)
    listed_experts(x.unsqueeze(0).numpy(), gate, up, down, _ONE, shares, bound, out.unsqueeze(0).numpy())
