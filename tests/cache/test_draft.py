"""Window rows of a draft stage: what a step sees, cuts, gaps, and rows that move to the front."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.cache.draft import DraftRows
from octavo.cache.layout import CacheLayout, RowFormat
from tests.support.tiny import tiny_config

CONFIG = tiny_config(sliding_window=8)
LAYOUT = CacheLayout(CONFIG)


def rows(first: int, stop: int) -> Tensor:
    """Rows [1, n, 32] that tell their token."""
    return torch.arange(first, stop, dtype=torch.float32).view(1, -1, 1).expand(1, -1, CONFIG.head_dim)


def seen(found: Tensor) -> list[int]:
    assert bool((found == found[..., :1]).all())
    return found[0, :, 0].int().tolist()


def test_a_step_sees_its_own_rows_and_a_window_less_one_before() -> None:
    held = DraftRows(LAYOUT)
    assert seen(held.window(5, rows(0, 5))) == list(range(5))
    assert seen(held.window(5, rows(5, 11))) == list(range(11))
    assert seen(held.window(5, rows(11, 13))) == list(range(4, 13))
    assert held.end == 13


def test_rows_stay_right_however_long_the_answer() -> None:
    held = DraftRows(LAYOUT)
    for token in range(200):
        held.window(5, rows(token, token + 3))  # two of them are drafts, which come to nothing
        held.cut(token + 1)
        assert held.end == token + 1
        assert len(held) <= 3 * LAYOUT.window_rows
    assert seen(held.window(5, rows(200, 201))) == list(range(193, 201))


def test_a_gap_or_a_cut_beyond_what_is_held_leaves_nothing_wrong() -> None:
    held = DraftRows(LAYOUT)
    held.cut(40)  # the answer's prompt begins here
    assert seen(held.window(5, rows(40, 44))) == [40, 41, 42, 43]
    held.cut(47)  # tokens 44 to 46 never came
    assert seen(held.window(5, rows(47, 49))) == [47, 48]
    held.cut(46)
    assert (len(held), held.end) == (0, 46)


@pytest.mark.parametrize("main", [RowFormat.FP8, RowFormat.FP4])
def test_rows_come_back_as_the_storage_format_gives_them(main: RowFormat) -> None:
    wide = tiny_config(sliding_window=8, head_dim=80)
    held = DraftRows(CacheLayout(wide, main=main))  # window rows beside FP4 entries are FP8
    given = torch.randn(1, 4, 80)
    found = held.window(5, given)
    assert found.dtype == torch.float32
    assert not torch.equal(found, given)
    torch.testing.assert_close(found, given, rtol=0.07, atol=0.01)
    torch.testing.assert_close(held.window(5, given[:, :1])[:, :4], found, rtol=0, atol=0)


def test_more_rows_than_a_window_are_refused() -> None:
    with pytest.raises(AssertionError, match="9 rows are more than the window"):
        DraftRows(LAYOUT).window(5, rows(0, 9))
