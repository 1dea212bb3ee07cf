"""A layer's parts around attention for many tokens of one sequence, one compiled call each.

Contract: that of `octavo.kernels.step` for `enter`, `cross`, `mix` and `write`, for any number of tokens, but that the
last two write over the streams they are given, which are what `cross` made; and
`recall(streams [T, M, D], memory [T, W], weight [(M + 1) D, W], q_gain [M, D], k_gain, eps) -> streams`:
`engram_lookup.gate` of the keys, the first M D of `linear(memory, weight)`, times the value, its last D, added to the
streams.

FP32, contiguous, no gradient, up to `STREAMS` streams, where `serves(streams)`: more tokens than `step` takes. A token
gets the same bits by itself and among others, on any number of threads; not those of `step`, whose sums have another
order. The body is C++ (`chunk.cpp`); without it the operations themselves are the fallback.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import native
from octavo.kernels.chunk import products
from octavo.kernels.chunk.products import threads
from octavo.kernels.projections.loops import Inputs
from octavo.kernels.step.layer import Layer

STREAMS = 8


def serves(streams: Tensor) -> bool:
    """Whether the compiled parts run for streams [T, M, D]."""
    return streams.shape[1] <= STREAMS and products.serves(streams)


def enter(layer: Layer, streams: Tensor, cos: Tensor, sin: Tensor, *, first: int) -> tuple[Inputs, Tensor]:
    """See the package docstring for the contract."""
    s, T, empty = layer.sizes, len(streams), torch.empty
    streams, cos, sin = streams.contiguous(), cos.contiguous(), sin.contiguous()
    links, q, kv = empty(T, s.streams * (1 + s.streams)), empty(T, s.heads, s.head_width), empty(T, s.head_width)
    raw, index = empty(T, 2 * s.raw) if s.raw else None, (None, None, None)
    if s.index_heads:
        index = empty(T, s.index_heads, s.index_width), empty(T, s.index_heads), empty(T, 2 * s.index_raw)
    native.called(native.CHUNK).octavo_chunk_enter(
        *threads(), layer.address, T, first, streams.data_ptr(), cos.data_ptr(), sin.data_ptr(), links.data_ptr(),
        q.data_ptr(), kv.data_ptr(), _at(raw), *[_at(part) for part in index],
    )  # fmt: skip
    return Inputs(q, kv, raw, *index), links


def cross(
    layer: Layer, streams: Tensor, o: Tensor, links: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    streams, o, cos, sin = streams.contiguous(), o.contiguous(), cos.contiguous(), sin.contiguous()
    after, x, following = torch.empty(streams.shape), torch.empty(len(o), layer.sizes.width), torch.empty_like(links)
    native.called(native.CHUNK).octavo_chunk_cross(
        *threads(), layer.address, len(o), streams.data_ptr(), o.data_ptr(), links.data_ptr(), cos.data_ptr(),
        sin.data_ptr(), after.data_ptr(), x.data_ptr(), following.data_ptr(),
    )  # fmt: skip
    return after, x, following


def mix(layer: Layer, streams: Tensor, x: Tensor, links: Tensor, table_rows: Tensor | None) -> Tensor:
    """See the package docstring for the contract."""
    given = None if table_rows is None else table_rows.contiguous()
    streams, x = streams.contiguous(), x.contiguous()
    native.called(native.CHUNK).octavo_chunk_mix(
        *threads(), layer.address, len(x), streams.data_ptr(), x.data_ptr(), links.data_ptr(), _at(given)
    )
    return streams


def write(streams: Tensor, y: Tensor, links: Tensor) -> Tensor:
    """See the package docstring for the contract."""
    streams, y = streams.contiguous(), y.contiguous()
    native.called(native.CHUNK).octavo_chunk_write(
        *threads(), *streams.shape, streams.data_ptr(), y.data_ptr(), links.data_ptr()
    )
    return streams


def recall(streams: Tensor, memory: Tensor, weight: Tensor, q_gain: Tensor, k_gain: Tensor, eps: float) -> Tensor:
    """See the package docstring for the contract."""
    streams, memory, out = streams.contiguous(), memory.contiguous(), torch.empty(streams.shape)
    native.called(native.CHUNK).octavo_chunk_recall(
        *threads(), *streams.shape, memory.shape[1], eps, streams.data_ptr(), memory.data_ptr(), weight.data_ptr(),
        q_gain.data_ptr(), k_gain.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


__all__ = ["STREAMS", "cross", "enter", "mix", "products", "recall", "serves", "write"]
