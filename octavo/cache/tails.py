"""The newest rows of every layer that the next step needs.

Covers: `LayerTail`, how many rows it must keep, and the tails of an empty sequence. Does not cover: pages of closed
entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.config.model import CSA_RATIO

_CONV_TYPES = {RowFormat.FP64: torch.float64, RowFormat.BF16: torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class LayerTail:
    """The newest rows of one layer: window rows (stored form, [n, row_bytes]), raw compressor rows by store kind with
    the token number of their first row ([n, 2w] FP32, or FP64 beside an FP64 store: values, then scores), Engram
    convolution rows."""

    window: Tensor
    raw: dict[str, Tensor]
    raw_first: dict[str, int]
    conv: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        conv = 0 if self.conv is None else self.conv.nbytes
        return self.window.nbytes + sum(rows.nbytes for rows in self.raw.values()) + conv


def raw_start(layout: CacheLayout, layer: int, length: int, *, margin: int | None = None) -> int:
    """First token whose raw compressor row is kept at `length` tokens: the open group (and, where groups overlap, the
    one before it) as it was `margin` tokens ago (default: the layout's margin)."""
    ratio = layout.config.layer_ratios[layer]
    back = max(length - (layout.margin if margin is None else margin), 0) // ratio * ratio
    return max(back - ratio, 0) if ratio == CSA_RATIO else back


def lean_tail(layout: CacheLayout, layer: int, tail: LayerTail, length: int) -> LayerTail:
    """Only the rows of a tail at `length` tokens that the next step needs: no margin for rollback."""
    window = layout.config.sliding_window - 1
    raw, raw_first = {}, {}
    for kind, values in tail.raw.items():
        first = max(raw_start(layout, layer, length, margin=0), tail.raw_first[kind])
        raw[kind], raw_first[kind] = values[first - tail.raw_first[kind] :], first
    conv = tail.conv
    if conv is not None:
        conv = conv[max(len(conv) - (layout.conv_rows - layout.margin), 0) :]
    return LayerTail(window=tail.window[max(len(tail.window) - window, 0) :], raw=raw, raw_first=raw_first, conv=conv)


def empty_tails(layout: CacheLayout, device: torch.device | str = "cpu") -> tuple[LayerTail, ...]:
    """Tails of a sequence that has read nothing."""
    config = layout.config
    tails = []
    for layer, ratio in enumerate(config.layer_ratios):
        factor = 4 if ratio == CSA_RATIO else 2  # values and scores, twice as wide where groups overlap
        raw = {
            spec.kind: torch.empty(
                0,
                factor * spec.width,
                dtype=torch.float64 if spec.format is RowFormat.FP64 else torch.float32,
                device=device,
            )
            for spec in layout.stores
            if spec.layer == layer
        }
        engram = config.engram
        has_conv = engram is not None and layer in engram.layers and engram.variant == "v1"
        dtype = _CONV_TYPES.get(layout.main, torch.float32)
        lanes = config.hc_mult * config.hidden_size
        tails.append(
            LayerTail(
                window=torch.empty(0, layout.window_row_bytes, dtype=torch.uint8, device=device),
                raw=raw,
                raw_first=dict.fromkeys(raw, 0),
                conv=torch.empty(0, lanes, dtype=dtype, device=device) if has_conv else None,
            )
        )
    return tuple(tails)
