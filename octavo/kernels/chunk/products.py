"""Single operations of many tokens in compiled code, with the bits that a layer's part has for them (`mix`).

Covers: `linear`, the hidden numbers of one expert (`hidden`), sums of a token's rows (`sums`). What is given is FP32,
on the CPU and contiguous, without gradients; `serves` says where there is code. Does not cover: a handful of tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from octavo.kernels import dispatch, native


def serves(x: Tensor, *weights: Tensor) -> bool:
    """Whether the compiled operations run for x [T, N] and these weights."""
    if not dispatch.loops_on_cpu(x) or dispatch.loops_on_cpu(x, tokens=x.shape[0]):
        return False
    if not all(w.dtype == torch.float32 and w.is_contiguous() for w in weights):
        return False
    return native.library() is not None and native.library(native.CHUNK) is not None


def threads() -> tuple[int, int]:
    """How many threads share a call, and what shares it out among them."""
    return torch.get_num_threads(), native.run_address(native.called())


def linear(x: Tensor, weight: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x [T, N] times weight [O, N] -> [T, O], into `out` if it is given."""
    x, out = x.contiguous(), torch.empty(len(x), len(weight)) if out is None else out
    native.called(native.CHUNK).octavo_chunk_linear(
        *threads(), *x.shape, len(weight), x.data_ptr(), weight.data_ptr(), out.data_ptr()
    )
    return out


def hidden(
    x: Tensor, w1: Tensor, w3: Tensor, *, limit: float | None, tokens: Tensor | None = None,
    shares: Tensor | None = None, out: Tensor,
) -> None:  # fmt: skip
    """silu(min(w1 x, limit)) clamp(w3 x) of x's rows `tokens` [n] int64 (None: of all), times `shares` [n] (None: 1),
    into out [n, F]; x [T, D], w1 and w3 [F, D]."""
    bound = math.inf if limit is None else limit
    native.called(native.CHUNK).octavo_chunk_hidden(
        *threads(), len(out), x.shape[1], len(w1), bound, x.data_ptr(), None if tokens is None else tokens.data_ptr(),
        None if shares is None else shares.data_ptr(), w1.data_ptr(), w3.data_ptr(), out.data_ptr(),
    )  # fmt: skip


def sums(rows: Tensor, place: Tensor) -> Tensor:
    """Sums [T, D] of rows [n, D] at place [T, A] int64, from left to right."""
    out = torch.empty(len(place), rows.shape[1])
    native.called(native.CHUNK).octavo_chunk_sums(
        *threads(), *place.shape, rows.shape[1], rows.data_ptr(), place.data_ptr(), out.data_ptr()
    )
    return out
