"""Bytes of the compressed cache. Covers: row formats, pages, and what a sequence holds besides pages; allocator,
planner and file format are all computed from here. Not here: tensors, page tables, encoding of rows.

One row of width K with P rotary channels (main) or of width J (index), in bytes:

    format   main                                              512/64   index              128
    fp64     8 K                                                 4096   8 J               1024
    fp32     4 K                                                 2048   4 J                512
    bf16     2 K                                                 1024   2 J                256
    fp8      (K-P) e4m3 | P bf16 | one e8m0 per 64 channels,      584   J e4m3 | f32 scale 132
             the scales padded to a multiple of 8 bytes
    fp4      (K-P)/2 e2m1 | P e4m3 | one e8m0 per 32 channels     304   J/2 | e8m0 per 32   68
             of either part, padded in the same way

Window rows are stored as main entries are; beside FP4 entries they are FP8, since they do not grow. FP64 is the exact
form of a model that computes in FP64; its partial and convolution rows are FP64 too.

A page covers 256 original tokens: 256 / ratio entries of every store.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from octavo.config.errors import ConfigError, LimitError
from octavo.config.model import LayerKind, ModelConfig

PAGE_TOKENS = 256
TOKEN_ID_BYTES = 4
StoreKind = Literal["main", "index"]


class RowFormat(StrEnum):
    """How one cached row is stored."""

    FP64 = "fp64"
    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"
    FP4 = "fp4"


_ELEMENT = {RowFormat.FP64: 8, RowFormat.FP32: 4, RowFormat.BF16: 2}  # formats whose rows are the values themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """Compressed entries of one kind in one layer: an entry of `row_bytes` for every `ratio` tokens."""

    layer: int
    kind: StoreKind
    ratio: int
    width: int
    format: RowFormat
    row_bytes: int

    @property
    def entries_per_page(self) -> int:
        """Entries that one page of this store holds."""
        return PAGE_TOKENS // self.ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSpec:
    """Value and score rows of a compressor whose group is not complete: two tensors [rows, width] of `element` bytes a
    value, FP64 beside an FP64 store and FP32 beside any other."""

    layer: int
    kind: StoreKind
    ratio: int
    rows: int
    width: int
    element: int = 4

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return 2 * self.rows * self.width * self.element


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedBytes:
    """Bytes of a sequence that do not grow with its length."""

    window: int
    partial: int
    engram: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.window + self.partial + self.engram


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLine:
    """One addend of a cache's size, with the arithmetic that gives it."""

    name: str
    nbytes: int
    arithmetic: str


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Sizes of the cache of one sequence of `config`.

    `main` and `index` are the formats of entries and of index keys. `margin` is how many tokens can be rolled back
    without recomputing: that many extra window and partial rows are kept. Only decoder layers are counted, no draft
    stages. Raises ConfigError when a width does not suit a format.
    """

    config: ModelConfig
    main: RowFormat = RowFormat.FP32
    index: RowFormat = RowFormat.FP32
    margin: int = 8

    def __post_init__(self) -> None:
        for name in ("main", "index"):
            object.__setattr__(self, name, _row_format(name, getattr(self, name)))
        if isinstance(self.margin, bool) or not isinstance(self.margin, int) or self.margin < 0:
            raise ConfigError(f"margin is {self.margin!r}; it must be an integer from 0")
        plain = self.config.head_dim - self.config.qk_rope_head_dim
        if self.main is RowFormat.FP4 and plain % 2:
            raise ConfigError(f"{plain} channels of head_dim are not rotary; FP4 entries need an even number of them")
        width = self.config.index_head_dim
        if self.index is RowFormat.FP4 and width % 32:
            raise ConfigError(f"index_head_dim is {width}; FP4 index keys need a multiple of 32")

    def row_bytes(self, kind: StoreKind) -> int:
        """Bytes of one entry of `kind`."""
        if kind == "main":
            return main_row_bytes(self.main, width=self.config.head_dim, rope=self.config.qk_rope_head_dim)
        return index_row_bytes(self.index, width=self.config.index_head_dim)

    @property
    def window(self) -> RowFormat:
        """How window rows are stored."""
        return RowFormat.FP8 if self.main is RowFormat.FP4 else self.main

    @property
    def window_row_bytes(self) -> int:
        """Bytes of one window row."""
        return main_row_bytes(self.window, width=self.config.head_dim, rope=self.config.qk_rope_head_dim)

    def entries_per_page(self, ratio: int) -> int:
        """Entries of ratio `ratio` in one page."""
        return PAGE_TOKENS // ratio

    @property
    def stores(self) -> tuple[StoreSpec, ...]:
        """One store per compressed layer, and one more for the index keys of CSA layers, in layer order."""
        return _stores(self)

    @property
    def partials(self) -> tuple[PartialSpec, ...]:
        """Partial rows of every compressor, in the order of `stores`."""
        return _partials(self)

    @property
    def rope_dims(self) -> int:
        """Rotary channels at the end of an entry."""
        return self.config.qk_rope_head_dim

    @property
    def window_rows(self) -> int:
        """Window rows kept in a layer: those before the current token, and the margin."""
        return self.config.sliding_window - 1 + self.margin

    def partial_rows(self, ratio: int) -> int:
        """Most rows a compressor keeps: an open group, for CSA the closed group before it, and the margin."""
        return ratio - 1 + (ratio if LayerKind.of(ratio) is LayerKind.CSA else 0) + self.margin

    @property
    def conv_rows(self) -> int:
        """Rows [hc_mult, hidden_size] kept in an Engram layer for its convolution; 0 without one."""
        engram = self.config.engram
        return engram.conv_history + self.margin if engram is not None and engram.has_conv else 0

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all stores."""
        return sum(store.entries_per_page * store.row_bytes for store in self.stores)

    @property
    def bytes_per_token(self) -> float:
        """History bytes per token: exact, since every ratio is a power of two. Token ids come on top."""
        return self.page_bytes / PAGE_TOKENS

    @property
    def fixed_bytes(self) -> FixedBytes:
        """Window rows, partial rows and Engram rows."""
        config = self.config
        element = {RowFormat.FP64: 8, RowFormat.BF16: 2}.get(self.main, 4)
        layers = len(config.engram.layers) if config.engram is not None else 0
        return FixedBytes(
            window=config.num_hidden_layers * self.window_rows * self.window_row_bytes,
            partial=sum(partial.nbytes for partial in self.partials),
            engram=layers * self.conv_rows * config.hc_mult * config.hidden_size * element,
        )

    def pages(self, tokens: int) -> int:
        """Pages that hold `tokens` tokens; the last one may be partly empty. LimitError below 0."""
        if tokens < 0:
            raise LimitError(f"tokens is {tokens}; it must be at least 0")
        return -(-tokens // PAGE_TOKENS)

    def entry_bytes(self, tokens: int) -> int:
        """Bytes of the entries that `tokens` tokens complete, without rounding to pages."""
        return sum(tokens // store.ratio * store.row_bytes for store in self.stores)

    def paged_bytes(self, tokens: int) -> int:
        """Bytes of the pages of `tokens` tokens."""
        return self.pages(tokens) * self.page_bytes

    def token_id_bytes(self, tokens: int) -> int:
        """Bytes of the token ids, 4 each."""
        return tokens * TOKEN_ID_BYTES

    def total_bytes(self, tokens: int) -> int:
        """Everything a sequence of `tokens` tokens holds: pages, fixed rows and token ids."""
        return self.paged_bytes(tokens) + self.fixed_bytes.total + self.token_id_bytes(tokens)

    def published_bytes(self, tokens: int) -> int:
        """What published totals count: entries and a whole window of rows in every layer."""
        windows = self.config.num_hidden_layers * self.config.sliding_window * self.window_row_bytes
        return self.entry_bytes(tokens) + windows

    def lines(self, tokens: int) -> tuple[CacheLine, ...]:
        """The addends of `total_bytes(tokens)`, each with its arithmetic."""
        config, fixed, ids = self.config, self.fixed_bytes, self.token_id_bytes(tokens)
        rows = f"{config.num_hidden_layers} layers x {self.window_rows} rows x {self.window_row_bytes} B"
        lines = [
            *_store_lines(self, self.pages(tokens)),
            CacheLine(name=f"window rows ({self.window})", nbytes=fixed.window, arithmetic=rows),
            CacheLine(
                name=f"partial rows ({_partial_format(self)})", nbytes=fixed.partial, arithmetic=_partial_terms(self)
            ),
        ]
        if config.engram is not None and fixed.engram:
            layers = len(config.engram.layers)
            terms = f"{layers} layers x {self.conv_rows} rows x {config.hc_mult} x {config.hidden_size}"
            size = fixed.engram // (layers * self.conv_rows * config.hc_mult * config.hidden_size)
            lines.append(CacheLine(name="engram rows", nbytes=fixed.engram, arithmetic=f"{terms} x {size} B"))
        lines.append(CacheLine(name="token ids", nbytes=ids, arithmetic=f"{tokens} tokens x {TOKEN_ID_BYTES} B"))
        return tuple(lines)


def main_row_bytes(format: RowFormat, *, width: int, rope: int) -> int:
    """Bytes of an entry or window row of `width` channels, the last `rope` of them rotary."""
    if format in _ELEMENT:
        return _ELEMENT[format] * width
    if format is RowFormat.FP4:
        scales = -(-(width - rope) // 32) + -(-rope // 32)
        return (width - rope) // 2 + rope + -(-scales // 8) * 8
    scales = -(-(width - rope) // 64)
    return (width - rope) + 2 * rope + -(-scales // 8) * 8


def index_row_bytes(format: RowFormat, *, width: int) -> int:
    """Bytes of an index key of `width` channels."""
    if format in _ELEMENT:
        return _ELEMENT[format] * width
    return width // 2 + width // 32 if format is RowFormat.FP4 else width + 4


def _row_format(name: str, value: object) -> RowFormat:
    try:
        return RowFormat(str(value))
    except ValueError:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(RowFormat)}") from None


@lru_cache(maxsize=64)
def _stores(layout: CacheLayout) -> tuple[StoreSpec, ...]:
    config, stores = layout.config, []
    for layer, ratio in enumerate(config.layer_ratios):
        kind = LayerKind.of(ratio)
        if kind is LayerKind.WINDOW:
            continue
        stores.append(_store(layout, layer=layer, ratio=ratio, kind="main"))
        if kind is LayerKind.CSA:
            stores.append(_store(layout, layer=layer, ratio=ratio, kind="index"))
    return tuple(stores)


def _store(layout: CacheLayout, *, layer: int, ratio: int, kind: StoreKind) -> StoreSpec:
    main = kind == "main"
    return StoreSpec(
        layer=layer,
        kind=kind,
        ratio=ratio,
        width=layout.config.head_dim if main else layout.config.index_head_dim,
        format=layout.main if main else layout.index,
        row_bytes=layout.row_bytes(kind),
    )


@lru_cache(maxsize=64)
def _partials(layout: CacheLayout) -> tuple[PartialSpec, ...]:
    return tuple(
        PartialSpec(
            layer=store.layer,
            kind=store.kind,
            ratio=store.ratio,
            rows=layout.partial_rows(store.ratio),
            width=store.width * (2 if LayerKind.of(store.ratio) is LayerKind.CSA else 1),
            element=8 if store.format is RowFormat.FP64 else 4,
        )
        for store in layout.stores
    )


def _store_lines(layout: CacheLayout, pages: int) -> list[CacheLine]:
    """Pages by kind of store: CSA entries, their index keys, HCA entries."""
    stores: Counter[tuple[StoreKind, int]] = Counter((store.kind, store.ratio) for store in layout.stores)
    lines = []
    for (kind, ratio), layers in stores.items():
        entries, size = layout.entries_per_page(ratio), layout.row_bytes(kind)
        format, what = (layout.main, "entries") if kind == "main" else (layout.index, "index keys")
        lines.append(
            CacheLine(
                name=f"{LayerKind.of(ratio).name} {what} 1/{ratio} ({format})",
                nbytes=pages * entries * layers * size,
                arithmetic=f"{pages} pages x {entries} entries x {layers} layers x {size} B",
            )
        )
    return lines


def _partial_format(layout: CacheLayout) -> str:
    """What the partial rows are in; both, where main entries and index keys are stored unalike."""
    sizes = {partial.element for partial in layout.partials}
    return "fp64" if sizes == {8} else "fp32" if 8 not in sizes else "fp64, fp32"


def _partial_terms(layout: CacheLayout) -> str:
    """Arithmetic of the partial rows, equal compressors together."""
    shapes = Counter((partial.rows, partial.width, partial.element) for partial in layout.partials)
    terms = [f"{count} x 2 x {rows} rows x {width} x {size} B" for (rows, width, size), count in shapes.items()]
    return " + ".join(terms) or "none"
