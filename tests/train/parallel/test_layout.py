"""Layouts in words, their numbers, and layouts that do not suit ranks, model or rows."""

from __future__ import annotations

import pytest

from octavo.config.errors import UsageError
from octavo.train.parallel.layout import Layout
from tests.support.training import small_config


def test_words_become_degrees() -> None:
    layout = Layout.parse("fsdp=2, ep=4,cp=1")
    assert layout == Layout(dp=1, fsdp=2, cp=1, ep=4)
    assert (layout.ranks, layout.shares, layout.plain) == (8, 8, False)
    assert (Layout(dp=4).plain, Layout(dp=2, cp=2, ep=3).ranks, Layout(dp=2, cp=2, ep=3).shares) == (True, 12, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tp=2", "parallel 'tp=2': 'tp' is not one of dp, fsdp, cp, ep"),
        ("", "parallel '': '' is not one of dp, fsdp, cp, ep"),
        ("ep=2,ep=2", "parallel 'ep=2,ep=2': 'ep' is there twice"),
        ("fsdp=two", "parallel fsdp is 'two'; it must be a whole number"),
        ("fsdp", "parallel fsdp is ''; it must be a whole number"),
        ("fsdp=0", "parallel fsdp is 0; it must be at least 1"),
    ],
)
def test_other_words_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Layout.parse(words)
    assert str(caught.value) == message


def test_the_product_is_the_number_of_ranks() -> None:
    Layout(fsdp=2, ep=2).check_ranks(4)
    with pytest.raises(UsageError, match="dp 1 x fsdp 2 x cp 1 x ep 2 are 4 ranks; 8 were started"):
        Layout(fsdp=2, ep=2).check_ranks(8)


def test_experts_and_rows_must_be_cut_evenly() -> None:
    config = small_config()
    Layout(ep=4, cp=2).check(config, [256, 512])
    with pytest.raises(UsageError, match="ep is 3; it must divide n_routed_experts 4"):
        Layout(ep=3).check(config, [256])
    with pytest.raises(UsageError, match="cp is 2; rows of 128 tokens are no multiple of cp x 128 tokens"):
        Layout(cp=2).check(config, [256, 128])
    with pytest.raises(UsageError, match="a chunk of 128 tokens of a row of 256 is below sliding_window 200"):
        Layout(cp=2).check(small_config(sliding_window=200), [512, 256])
    Layout(fsdp=8).check(config, [31])
