"""A layer's parts around attention for a handful of tokens of one sequence, one compiled call each.

Contract, with the weights in a `Layer`; each part stands for operations of `hyper`, `projections` and `mixture`:
`enter(layer, streams [T, M, D], cos [T, P / 2], sin, *, first) -> (Inputs, links [T, M + M M])`: `hyper.begin`, then
`project_in`; raw rows have the position bias of the tokens first .. first + T - 1 already (`compress.place`).
`cross(layer, streams, o [T, H, K], links, cos, sin) -> (streams, x [T, D], links)`: `project_out`, then `hyper.cross`.
`mix(layer, streams, x, links, table_rows [T, A] int64 or None) -> streams`: `mixture`, then `hyper.write`.
`write(streams, y [T, D], links) -> streams`: `hyper.write`.
`head(streams, pack, weight [V, D], *, eps, norm_eps) -> logits [T, V]`: `hyper.finish`, then `linear`; None unless all
weights are contiguous FP32 matrices.
`entry(rows [n, 2 w], gain [K], frequencies [P / 2] FP64, *, ratio, overlap, has_previous, first, eps, transformed)
-> [n // ratio - has_previous, K]`: entries first, first + 1, .. of a compressor: `compress.pool` (w = 2 K with overlap,
else K), `norm_rotate` by the position of an entry's first token, and `hadamard` if `transformed`. `ratio` at most 256.
`recall(streams, both [T, (M + 1) D], q_gain [M, D], k_gain, eps) -> streams`: `engram_lookup.gate` of the keys, which
come before the value in each row of `both`, times the value, added to the streams.
`links` are what the next write needs of each token: post, then comb.

FP32, contiguous, no gradient, T from 1 to 8, where `serves(streams)`; nothing is in place. A token gets the same bits
by itself and among others. The body is C++ (`step.cpp`); without it the operations themselves are the fallback.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.int8_linear import Int8Weight
from octavo.kernels.pack import Pack
from octavo.kernels.projections.loops import Inputs
from octavo.kernels.step.layer import Layer, Sizes

_RATIO = 256  # most tokens of an entry


def serves(streams: Tensor) -> bool:
    """Whether the compiled parts run for streams [T, M, D]."""
    return native.serves(streams, streams.shape[0])


def enter(layer: Layer, streams: Tensor, cos: Tensor, sin: Tensor, *, first: int) -> tuple[Inputs, Tensor]:
    """See the package docstring for the contract."""
    s, T, empty = layer.sizes, len(streams), torch.empty
    streams = streams.contiguous()
    links, q, kv = empty(T, s.streams * (1 + s.streams)), empty(T, s.heads, s.head_width), empty(T, s.head_width)
    raw, index = empty(T, 2 * s.raw) if s.raw else None, (None, None, None)
    if s.index_heads:
        index = empty(T, s.index_heads, s.index_width), empty(T, s.index_heads), empty(T, 2 * s.index_raw)
    native.called().octavo_step_enter(
        torch.get_num_threads(), layer.address, T, first, streams.data_ptr(), cos.data_ptr(), sin.data_ptr(),
        links.data_ptr(), q.data_ptr(), kv.data_ptr(), _at(raw), *[_at(part) for part in index],
    )  # fmt: skip
    return Inputs(q, kv, raw, *index), links


def cross(
    layer: Layer, streams: Tensor, o: Tensor, links: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    streams, o = streams.contiguous(), o.contiguous()
    after, x, following = torch.empty_like(streams), torch.empty(len(o), layer.sizes.width), torch.empty_like(links)
    native.called().octavo_step_cross(
        torch.get_num_threads(), layer.address, len(o), streams.data_ptr(), o.data_ptr(), links.data_ptr(),
        cos.data_ptr(), sin.data_ptr(), after.data_ptr(), x.data_ptr(), following.data_ptr(),
    )  # fmt: skip
    return after, x, following


def mix(layer: Layer, streams: Tensor, x: Tensor, links: Tensor, table_rows: Tensor | None) -> Tensor:
    """See the package docstring for the contract."""
    out, given = torch.empty_like(streams), None if table_rows is None else table_rows.contiguous()
    native.called().octavo_step_mix(
        torch.get_num_threads(), layer.address, len(x), streams.data_ptr(), x.data_ptr(), links.data_ptr(), _at(given),
        out.data_ptr(),
    )  # fmt: skip
    return out


def write(streams: Tensor, y: Tensor, links: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    out, y = torch.empty_like(streams), y.contiguous()
    native.called().octavo_step_write(
        *streams.shape, streams.data_ptr(), y.data_ptr(), links.data_ptr(), out.data_ptr()
    )  # fmt: skip
    return out


def head(streams: Tensor, pack: Pack, weight: Tensor | Int8Weight, *, eps: float, norm_eps: float) -> Tensor | None:
    """See the package docstring for the contract."""
    if isinstance(weight, Int8Weight) or weight.dtype != torch.float32 or not weight.is_contiguous():
        return None
    at, (V, D) = pack.addresses(), weight.shape
    if at is None:
        return None
    streams = streams.contiguous()
    logits = torch.empty(len(streams), V)
    native.called().octavo_step_head(
        torch.get_num_threads(), len(streams), streams.shape[1], D, V, eps, norm_eps, streams.data_ptr(), *at,
        weight.data_ptr(), logits.data_ptr(),
    )  # fmt: skip
    return logits


def entry(
    rows: Tensor, gain: Tensor, frequencies: Tensor, *, ratio: int, overlap: bool, has_previous: bool, first: int,
    eps: float, transformed: bool,
) -> Tensor:  # fmt: skip
    """See the package docstring for the contract."""
    rows, K = rows.contiguous(), len(gain)
    out = torch.empty(len(rows) // ratio - has_previous, K)
    native.called().octavo_step_entry(
        len(out), ratio, overlap, has_previous, K, len(frequencies), transformed, first, eps, rows.data_ptr(),
        gain.data_ptr(), frequencies.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def recall(streams: Tensor, both: Tensor, q_gain: Tensor, k_gain: Tensor, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    out, streams, both = torch.empty(streams.shape), streams.contiguous(), both.contiguous()
    native.called().octavo_step_recall(
        *streams.shape, eps, streams.data_ptr(), both.data_ptr(), q_gain.data_ptr(), k_gain.data_ptr(), out.data_ptr()
    )
    return out


def serves_entry(rows: Tensor, gain: Tensor, *, tokens: int, ratio: int) -> bool:
    """Whether `entry` runs for a step of so many tokens."""
    return gain.dtype == torch.float32 and gain.is_contiguous() and ratio <= _RATIO and native.serves(rows, tokens)


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


__all__ = ["Layer", "Sizes", "cross", "enter", "entry", "head", "mix", "recall", "serves", "serves_entry", "write"]
