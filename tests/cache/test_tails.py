"""How many rows a tail keeps, against the layout's arithmetic."""

from __future__ import annotations

import pytest
import torch

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.tails import LayerTail, empty_tails, lean_tail, raw_start
from tests.support.sequences import small_config
from tests.support.tiny import tiny_engram

CSA, HCA = 1, 2


@pytest.mark.parametrize(("length", "csa", "hca"), [
    (0, 0, 0), (7, 0, 0), (8, 0, 0), (11, 0, 0), (12, 0, 0), (16, 4, 0), (135, 120, 0), (136, 124, 128),
    (300, 288, 256),
])  # fmt: skip
def test_first_row_kept(length: int, csa: int, hca: int) -> None:
    """Eight tokens ago: where the open group began, for CSA one group earlier."""
    layout = CacheLayout(small_config())
    assert (raw_start(layout, CSA, length), raw_start(layout, HCA, length)) == (csa, hca)


def test_no_margin_keeps_less() -> None:
    layout = CacheLayout(small_config())
    assert (raw_start(layout, CSA, 256, margin=0), raw_start(layout, HCA, 256, margin=0)) == (252, 256)


@pytest.mark.parametrize("layer", [CSA, HCA])
@pytest.mark.parametrize("margin", [0, 8, 20])
def test_rows_kept_never_exceed_the_plan_and_reach_it(layer: int, margin: int) -> None:
    layout = CacheLayout(small_config(), margin=margin)
    kept = [length - raw_start(layout, layer, length) for length in range(1200)]
    assert max(kept) == layout.partial_rows(layout.config.layer_ratios[layer])


@pytest.mark.parametrize("main", [RowFormat.FP8, RowFormat.FP4])
def test_empty_tails_have_no_rows_but_their_widths(main: RowFormat) -> None:
    layout = CacheLayout(small_config(), main=main)
    window, csa, hca = empty_tails(layout)
    assert window.raw == {}
    assert csa.window.shape == (0, 16 + 32 + 8)  # FP8 beside FP4 entries too
    assert {kind: tuple(rows.shape) for kind, rows in csa.raw.items()} == {"main": (0, 128), "index": (0, 128)}
    assert tuple(hca.raw["main"].shape) == (0, 64)
    assert all(tail.nbytes == 0 and tail.conv is None for tail in (window, csa, hca))


def test_rows_beside_fp64_stores_are_fp64() -> None:
    config = small_config(engram=tiny_engram("v1", layers=(1,)))
    _, csa, hca = empty_tails(CacheLayout(config, main=RowFormat.FP64, index=RowFormat.FP8))
    assert {kind: rows.dtype for kind, rows in csa.raw.items()} == {"main": torch.float64, "index": torch.float32}
    assert hca.raw["main"].dtype == torch.float64
    assert csa.conv is not None
    assert csa.conv.dtype == torch.float64


def test_only_layers_with_a_convolution_have_its_rows() -> None:
    config = small_config(engram=tiny_engram("v1", layers=(1,)))
    tails = empty_tails(CacheLayout(config, main=RowFormat.BF16))
    assert [tail.conv is not None for tail in tails] == [False, True, False]
    assert tails[1].conv is not None
    assert (tails[1].conv.dtype, tails[1].conv.shape[1]) == (torch.bfloat16, config.hc_mult * config.hidden_size)
    assert empty_tails(CacheLayout(small_config(engram=tiny_engram("v41", layers=(1,)))))[1].conv is None


def test_lean_tail_keeps_the_newest_rows_that_a_step_needs() -> None:
    layout = CacheLayout(small_config(engram=tiny_engram("v1", layers=(1,))))
    rows = torch.arange(layout.window_rows, dtype=torch.uint8).unsqueeze(1)
    raw = torch.arange(240, 256, dtype=torch.float32).unsqueeze(1)
    conv = torch.arange(layout.conv_rows, dtype=torch.float32).unsqueeze(1)
    tail = LayerTail(window=rows, raw={"main": raw}, raw_first={"main": 240}, conv=conv)
    lean = lean_tail(layout, CSA, tail, 256)
    assert torch.equal(lean.window, rows[layout.margin :])
    assert len(lean.window) == layout.config.sliding_window - 1
    assert (lean.raw_first, lean.raw["main"].flatten().tolist()) == ({"main": 252}, [252.0, 253.0, 254.0, 255.0])
    assert lean.conv is not None
    assert torch.equal(lean.conv, conv[layout.margin :])
    assert lean.nbytes < tail.nbytes
