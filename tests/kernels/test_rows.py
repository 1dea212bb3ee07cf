"""Rows of entries: dense and paged rows give the same tiles and gathers; dense rows are differentiable."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavo.cache.layout import CacheLayout, RowFormat
from octavo.cache.pool import PagedRows, PagePool
from octavo.kernels.rows import DenseRows, Rows
from tests.support.tiny import tiny_config

KEYS = ((1, "main"), (1, "index"), (2, "main"))  # ratio 4: 64 entries a page; ratio 128: 2 entries a page
PAGES = 5


def paged(key: tuple[int, str], count: int, *, broken: bool, main: RowFormat = RowFormat.FP32) -> tuple[Rows, Tensor]:
    """Rows in pages, and what was written; `broken`: the pages lie apart, in several slabs."""
    pool = PagePool(CacheLayout(tiny_config(), main=main), capacity_tokens=3 * 256)
    taken = [pool.take() for _ in range(2 * PAGES)]
    pages = taken[::-2] if broken else taken[:PAGES]
    runs = pool.runs(pages)
    values = torch.randn(count, pool.specs[key].width)
    for start in range(0, count, 37):  # writes end inside pages and cross their borders
        pool.write(runs, key, start, values[start : start + 37])
    return PagedRows(pool, runs, key, count), values


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_paged_rows_equal_dense_rows(key: tuple[int, str], broken: bool) -> None:
    count = 5 if key[0] == 2 else 300
    rows, values = paged(key, count, broken=broken)
    dense = DenseRows(values.unsqueeze(0))
    assert (rows.length, rows.width) == (dense.length, dense.width) == (count, values.shape[1])
    for start, stop in ((0, count), (0, 0), (1, 2), (count // 3, count - 1), (count, count)):
        assert torch.equal(rows.tile(start, stop), dense.tile(start, stop))
    index = torch.randint(0, count, (1, 9, 4))
    assert torch.equal(rows.gather(index), dense.gather(index))


@given(st.lists(st.integers(0, 299), min_size=1, max_size=12), st.integers(0, 300), st.integers(0, 300))
def test_any_tile_and_any_gather(index: list[int], a: int, b: int) -> None:
    rows, values = paged((1, "main"), 300, broken=True)
    dense = DenseRows(values.unsqueeze(0))
    assert torch.equal(rows.tile(min(a, b), max(a, b)), dense.tile(min(a, b), max(a, b)))
    picks = torch.tensor(index).view(1, 1, -1)
    assert torch.equal(rows.gather(picks), dense.gather(picks))


@pytest.mark.parametrize("form", [RowFormat.BF16, RowFormat.FP8])
def test_gather_and_tile_decode_stored_formats_alike(form: RowFormat) -> None:
    rows, values = paged((1, "main"), 200, broken=True, main=form)
    index = torch.randint(0, 200, (1, 3, 5))
    decoded = rows.tile(0, 200)
    assert torch.equal(rows.gather(index), DenseRows(decoded).gather(index))
    torch.testing.assert_close(decoded[0].float(), values, rtol=0.07, atol=0.02)


def test_dense_gather_keeps_sequences_apart_and_sums_gradients() -> None:
    values = torch.randn(2, 3, 4, requires_grad=True)
    index = torch.tensor([[[0, 2], [2, 2]], [[1, 1], [0, 2]]])
    gathered = DenseRows(values).gather(index)
    for b in range(2):
        assert torch.equal(gathered[b], values[b][index[b]])
    gathered.sum().backward()
    assert values.grad is not None
    assert values.grad[..., 0].tolist() == [[1, 0, 3], [1, 2, 1]]
