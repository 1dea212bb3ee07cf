"""A layer's sizes and weights as the compiled parts of a step read them.

Covers: `Layer`, the structure of that name in layer.h, kept as long as every weight stays where it is in memory. Does
not cover: which weights a layer has (`octavo.model.step`).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from octavo.kernels.pack import Pack, Place

_WIDTHS = (
    "width", "streams", "heads", "head_width", "pairs", "latent", "groups", "rank", "raw", "ratio", "index_heads",
    "index_width", "index_raw", "experts", "chosen", "inner", "shared_inner", "iterations", "normalised", "padding",
)  # fmt: skip
_RULES = ("eps", "norm_eps", "limit", "scale")
WEIGHTS = (
    "attn_fn", "attn_base", "attn_scale", "attn_gain", "wq_a", "q_gain", "wq_b", "wkv", "kv_gain", "main_kv",
    "main_gate", "main_bias", "index_q", "index_proj", "index_kv", "index_gate", "index_bias", "wo_a", "wo_b",
    "ffn_fn", "ffn_base", "ffn_scale", "ffn_gain", "gate", "w1", "w3", "w2", "s1", "s3", "s2", "bias",
    "main_norm", "index_norm", "sink",
)  # fmt: skip
"""Names of the weights; `projections`, `hyper`, `compress` and `mixture` say what they are."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths and rules of one layer; 0 for the widths of a part that it lacks. `pairs`: rotary channels / 2. `rank`: of
    one output group. `raw`, `index_raw`: width of a compressor's values. `limit` None: the experts have no clamp."""

    width: int
    streams: int
    heads: int
    head_width: int
    pairs: int
    latent: int
    groups: int
    rank: int
    raw: int = 0
    ratio: int = 0
    index_heads: int = 0
    index_width: int = 0
    index_raw: int = 0
    experts: int = 0
    chosen: int = 0
    inner: int = 0
    shared_inner: int = 0
    iterations: int
    normalised: bool
    eps: float
    norm_eps: float
    limit: float | None
    scale: float

    @property
    def room(self) -> int:
        """Numbers of a token that pass between the halves of a step (`Room` in whole.h)."""
        links, heads = self.streams * (1 + self.streams), self.heads * self.head_width
        index = self.index_heads * (1 + self.index_width)
        return 2 * links + 2 * heads + index + (self.streams + 1) * self.width


class _Structure(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int32) for name in _WIDTHS],
        *[(name, ctypes.c_float) for name in _RULES],
        *[(name, ctypes.c_void_p) for name in WEIGHTS],
    ]


class Layer:
    """Weights at `places`, by the names of `WEIGHTS`; those that are left out are not there."""

    def __init__(self, sizes: Sizes, places: Mapping[str, Place]) -> None:
        self._begin(sizes, tuple(places), Pack(*places.values()))

    def _begin(self, sizes: Sizes, names: tuple[str, ...], pack: Pack) -> None:
        self.sizes, self._names, self._pack = sizes, names, pack
        self._at: tuple[int, ...] = ()
        self._structure = _Structure()
        for field in fields(Sizes):
            value = getattr(sizes, field.name)
            setattr(self._structure, field.name, math.inf if value is None else value)
        self.address = ctypes.addressof(self._structure)

    def ready(self) -> bool:
        """Whether all weights are contiguous FP32 on the CPU; the structure follows them then."""
        at = self._pack.addresses()
        if at is None:
            return False
        if at is not self._at:
            for name, address in zip(self._names, at, strict=True):
                setattr(self._structure, name, address)
            self._at = at
        return True

    def __getstate__(self) -> tuple[Sizes, tuple[str, ...], Pack]:
        return self.sizes, self._names, self._pack  # a copy has weights of its own

    def __setstate__(self, state: tuple[Sizes, tuple[str, ...], Pack]) -> None:
        self._begin(*state)
