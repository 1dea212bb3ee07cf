"""Bytes of the cache: every row format, published figures, pages, and sums that must agree."""

from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.cache.layout import PAGE_TOKENS, CacheLayout, RowFormat, StoreSpec, index_row_bytes, main_row_bytes
from octavo.config.errors import ConfigError, LimitError
from octavo.config.model import ModelConfig
from octavo.config.presets import flash, pro, s, xs

MILLION = 2**20
V32_BYTES = 61 * 788


@pytest.mark.parametrize(
    ("format", "main", "index"),
    [
        (RowFormat.FP64, 4096, 1024),
        (RowFormat.FP32, 2048, 512),
        (RowFormat.BF16, 1024, 256),
        (RowFormat.FP8, 584, 132),
        (RowFormat.FP4, 304, 68),
    ],
)
def test_rows_of_the_official_widths(format: RowFormat, main: int, index: int) -> None:
    assert index_row_bytes(format, width=128) == index
    assert main_row_bytes(format, width=512, rope=64) == main
    layout = CacheLayout(flash(), format, format)
    assert layout.row_bytes("main") == main
    assert layout.window is (RowFormat.FP8 if format is RowFormat.FP4 else format)
    assert layout.window_row_bytes == max(main, 584)


def test_fp8_rows_of_other_widths() -> None:
    # 96 e4m3 + 32 bf16 + 2 scales padded to 8; then 576 channels, whose 9 scales need two words of 8 bytes.
    assert main_row_bytes(RowFormat.FP8, width=128, rope=32) == 96 + 64 + 8
    assert main_row_bytes(RowFormat.FP8, width=640, rope=64) == 576 + 128 + 16


def test_fp4_rows_of_other_widths() -> None:
    # 96 channels as 48 bytes, 32 e4m3, 3 + 1 scales padded to 8; then 48 channels as 24 bytes, 16 e4m3, 2 + 1 scales.
    assert main_row_bytes(RowFormat.FP4, width=128, rope=32) == 48 + 32 + 8
    assert main_row_bytes(RowFormat.FP4, width=64, rope=16) == 24 + 16 + 8
    assert main_row_bytes(RowFormat.FP4, width=640, rope=64) == 288 + 64 + 24


def test_a_million_tokens_of_flash_with_fp4_entries() -> None:
    layout = CacheLayout(flash(), main=RowFormat.FP4, index=RowFormat.FP4)
    entries, keys = 21 * 2**18 + 20 * 2**13, 21 * 2**18
    assert layout.published_bytes(MILLION) == entries * 304 + keys * 68 + 43 * 128 * 584 == 2_100_890_624
    assert layout.fixed_bytes.window == 43 * 135 * 584


@pytest.mark.parametrize(
    ("config", "index", "per_token", "total", "ratio"),
    [
        (flash(), "fp4", 3514.25, 3.69e9, 0.0732),
        (pro(), "fp4", 5031.4375, 5.28e9, 0.1048),
        (flash(), "fp8", 3850.25, 4.04e9, 0.0802),
        (pro(), "fp8", 5511.4375, 5.78e9, 0.11475),
    ],
)
def test_published_cache_sizes(config: ModelConfig, index: Any, per_token: float, total: float, ratio: float) -> None:
    layout = CacheLayout(config, main=RowFormat.FP8, index=index)
    assert layout.bytes_per_token == per_token
    published = layout.published_bytes(MILLION)
    assert published == per_token * MILLION + config.num_hidden_layers * 128 * 584
    assert published == pytest.approx(total, rel=1.5e-3)
    assert published / (V32_BYTES * MILLION) == pytest.approx(ratio, abs=5e-5)


def test_stores_in_layer_order() -> None:
    layout = CacheLayout(xs(), main=RowFormat.BF16, index=RowFormat.FP4)
    assert [(store.layer, store.kind, store.ratio) for store in layout.stores] == [
        (1, "main", 4), (1, "index", 4), (2, "main", 128), (3, "main", 4), (3, "index", 4), (4, "main", 128),
        (5, "main", 4), (5, "index", 4),
    ]  # fmt: skip
    first = StoreSpec(layer=1, kind="main", ratio=4, width=128, format=RowFormat.BF16, row_bytes=256)
    assert layout.stores[0] == first
    assert (layout.stores[1].width, layout.stores[1].row_bytes) == (64, 34)
    assert layout.rope_dims == 32


def test_pages_hold_whole_entries() -> None:
    layout = CacheLayout(xs())
    assert PAGE_TOKENS == 256
    assert [layout.entries_per_page(ratio) for ratio in (4, 128, 256)] == [64, 2, 1]
    assert layout.page_bytes == 3 * 64 * (512 + 256) + 2 * 2 * 512
    assert layout.page_bytes == layout.bytes_per_token * PAGE_TOKENS
    assert [layout.pages(tokens) for tokens in (0, 1, 256, 257)] == [0, 1, 1, 2]


def test_fixed_bytes_by_hand() -> None:
    layout = CacheLayout(xs(), margin=8)
    assert layout.window_rows == 135
    assert layout.partial_rows(4) == 4 + 3 + 8
    assert layout.partial_rows(128) == 127 + 8
    assert layout.fixed_bytes.window == 6 * 135 * 512
    assert layout.fixed_bytes.partial == 3 * 2 * 15 * (256 + 128) * 4 + 2 * 2 * 135 * 128 * 4
    assert layout.fixed_bytes.engram == 0
    assert layout.fixed_bytes.total == layout.fixed_bytes.window + layout.fixed_bytes.partial


@pytest.mark.parametrize(("main", "size"), [("fp64", 8), ("fp32", 4), ("bf16", 2), ("fp8", 4), ("fp4", 4)])
def test_engram_rows_of_the_convolution(main: Any, size: int) -> None:
    engram = s().engram
    assert engram is not None
    layout = CacheLayout(s().changed(engram=replace(engram, variant="v1")), main=main, margin=4)
    assert layout.conv_rows == 9 + 4
    assert layout.fixed_bytes.engram == 2 * 13 * 4 * 512 * size
    assert f"2 layers x 13 rows x 4 x 512 x {size} B" in {line.arithmetic for line in layout.lines(1)}


@given(
    tokens=st.integers(0, 3 * MILLION),
    main=st.sampled_from(RowFormat),
    index=st.sampled_from(RowFormat),
)
def test_sums_agree_at_every_length(tokens: int, main: RowFormat, index: RowFormat) -> None:
    layout = CacheLayout(xs(), main=main, index=index)
    total = layout.total_bytes(tokens)
    assert sum(line.nbytes for line in layout.lines(tokens)) == total
    assert layout.paged_bytes(tokens) + layout.fixed_bytes.total + layout.token_id_bytes(tokens) == total
    assert 0 <= layout.paged_bytes(tokens) - layout.entry_bytes(tokens) < 2 * layout.page_bytes
    if tokens % PAGE_TOKENS == 0:
        assert layout.entry_bytes(tokens) == layout.paged_bytes(tokens) == layout.bytes_per_token * tokens


@pytest.mark.parametrize(("main", "index", "name"), [
    ("fp64", "fp64", "fp64"), ("fp32", "fp32", "fp32"), ("fp64", "fp8", "fp64, fp32"), ("fp8", "fp4", "fp32"),
])  # fmt: skip
def test_partial_rows_are_as_wide_as_their_store_needs(main: Any, index: Any, name: str) -> None:
    layout = CacheLayout(xs(), main=main, index=index)
    size = {"main": 8 if main == "fp64" else 4, "index": 8 if index == "fp64" else 4}
    assert all(partial.element == size[partial.kind] for partial in layout.partials)
    assert f"partial rows ({name})" in [line.name for line in layout.lines(1)]


@pytest.mark.parametrize(("main", "index"), [("fp8", "fp4"), ("fp64", "fp8"), ("fp4", "fp4")])
def test_arithmetic_is_what_it_says(main: Any, index: Any) -> None:
    for line in CacheLayout(flash(), main, index).lines(MILLION):
        terms = line.arithmetic.split("+")
        assert sum(prod(int(word) for word in term.split() if word.isdigit()) for term in terms) == line.nbytes, line


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"main": "int8"}, "main is 'int8'; it must be one of fp64, fp32, bf16, fp8, fp4"),
        ({"index": 3}, "index is 3; it must be one of"),
        ({"margin": -1}, "margin is -1; it must be an integer from 0"),
        ({"margin": 1.5}, "margin is 1.5"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CacheLayout(xs(), **fields)


def test_narrow_index_keys_have_no_fp4() -> None:
    narrow = xs().changed(index_head_dim=16, qk_rope_head_dim=8)
    with pytest.raises(ConfigError, match="index_head_dim is 16; FP4 index keys need a multiple of 32"):
        CacheLayout(narrow, index=RowFormat.FP4)


def test_pairs_of_fp4_need_an_even_number_of_channels() -> None:
    odd = xs().changed(head_dim=127)
    with pytest.raises(ConfigError, match="95 channels of head_dim are not rotary; FP4 entries need an even number"):
        CacheLayout(odd, main=RowFormat.FP4)


def test_lengths_are_not_negative() -> None:
    with pytest.raises(LimitError, match="tokens is -1; it must be at least 0"):
        CacheLayout(xs()).pages(-1)


def test_a_window_only_model_has_no_pages() -> None:
    layout = CacheLayout(xs().changed(compress_ratios=(0,) * 6))
    assert layout.stores == ()
    assert (layout.page_bytes, layout.fixed_bytes.partial) == (0, 0)
    assert layout.lines(1000)[1].arithmetic == "none"
