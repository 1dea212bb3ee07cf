"""Gated pooling: the definition entry by entry, overlap with and without a previous group, masks, gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.compress import place, pool, pool_placed
from octavo.kernels.compress.ref import _pool_placed


def by_hand(values: Tensor, scores: Tensor, ratio: int, overlap: bool, has_previous: bool) -> Tensor:
    """Entry by entry and channel by channel, as the report defines it."""
    width = values.shape[2] // (2 if overlap else 1)
    first = ratio if overlap and has_previous else 0
    entries = []
    for start in range(first, values.shape[1], ratio):
        own = slice(start, start + ratio)
        v, s = values[:, own, -width:], scores[:, own, -width:]
        if overlap and start >= ratio:
            before = slice(start - ratio, start)
            v = torch.cat((values[:, before, :width], v), dim=1)
            s = torch.cat((scores[:, before, :width], s), dim=1)
        weight = s.exp() / s.exp().sum(1, keepdim=True)
        entries.append((weight * v).sum(1))
    return torch.stack(entries, dim=1)


@pytest.mark.parametrize(("overlap", "has_previous"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("ratio", [1, 4, 7])
def test_definition(ratio: int, overlap: bool, has_previous: bool) -> None:
    values, scores = torch.randn(2, 2, 3 * ratio, 10, dtype=torch.float64).unbind(0)
    made = pool(values, scores, ratio=ratio, overlap=overlap, has_previous=has_previous)
    torch.testing.assert_close(made, by_hand(values, scores, ratio, overlap, has_previous), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("overlap", "has_previous"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("ratio", [1, 4, 128])
def test_loop_over_few_groups(ratio: int, overlap: bool, has_previous: bool) -> None:
    packed = torch.randn(2, 3 * ratio, 24)
    packed[..., 12:] *= 30  # gates from about 0 to 1
    values, scores = packed[..., :12], packed[..., 12:]  # neither is contiguous
    options = {"ratio": ratio, "overlap": overlap, "has_previous": has_previous}
    with torch.no_grad():
        made = pool(values, scores, **options)
        with dispatch.use(dispatch.Body.REFERENCE):
            expected = pool(values, scores, **options)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_equal_scores_are_the_mean_and_a_large_one_is_the_token() -> None:
    values, scores = torch.randn(1, 8, 3), torch.zeros(1, 8, 3)
    torch.testing.assert_close(pool(values, scores, ratio=8, overlap=False, has_previous=False)[:, 0], values.mean(1))
    scores[0, 5, 1] = 200.0
    made = pool(values, scores, ratio=8, overlap=False, has_previous=False)
    assert made[0, 0, 1] == values[0, 5, 1]
    assert made[0, 0, 0] != values[0, 5, 0]


def test_pooling_in_two_calls_equals_one() -> None:
    values, scores = torch.randn(2, 1, 20, 12).unbind(0)
    whole = pool(values, scores, ratio=4, overlap=True, has_previous=False)
    head = pool(values[:, :8], scores[:, :8], ratio=4, overlap=True, has_previous=False)
    tail = pool(values[:, 4:], scores[:, 4:], ratio=4, overlap=True, has_previous=True)
    assert torch.equal(whole, torch.cat((head, tail), dim=1))


def test_first_entry_ignores_the_series_for_the_next_group() -> None:
    values, scores = torch.randn(2, 1, 4, 6).unbind(0)
    changed = values.clone()
    changed[..., :3] = 1e6
    options = {"ratio": 4, "overlap": True, "has_previous": False}
    assert torch.equal(pool(values, scores, **options), pool(changed, scores, **options))


@pytest.mark.parametrize(("rows", "overlap", "has_previous"), [(0, False, False), (0, True, False), (4, True, True)])
def test_no_closed_group_gives_nothing(rows: int, overlap: bool, has_previous: bool) -> None:
    x = torch.zeros(2, rows, 6)
    made = pool(x, x, ratio=4, overlap=overlap, has_previous=has_previous)
    assert made.shape == (2, 0, 3 if overlap else 6)


@pytest.mark.parametrize(("overlap", "has_previous"), [(False, False), (True, False), (True, True)])
def test_gradient(overlap: bool, has_previous: bool) -> None:
    values = torch.randn(1, 6, 4, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(1, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v, s: pool(v, s, ratio=2, overlap=overlap, has_previous=has_previous), (values, scores)
    )


@pytest.mark.parametrize("first", [0, 3, 8])
@pytest.mark.parametrize("S", [0, 1, 2, 21])
@pytest.mark.parametrize("grad", [True, False])
def test_the_bias_follows_the_place_in_the_group(S: int, first: int, grad: bool) -> None:
    projected, bias = torch.randn(2, S, 10), torch.randn(4, 5)
    expected = projected.clone()
    for s in range(S):
        expected[:, s, 5:] += bias[(first + s) % 4]
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(place(projected, bias, first=first), expected)


@pytest.mark.parametrize("overlap", [False, True])
def test_pooling_rows_without_their_bias(overlap: bool) -> None:
    raw, bias = torch.randn(2, 12, 16, dtype=torch.float64), torch.randn(4, 8, dtype=torch.float64)
    values, scores = place(raw, bias, first=0).split(8, dim=-1)
    rules = {"ratio": 4, "overlap": overlap, "has_previous": overlap}
    torch.testing.assert_close(pool_placed(raw, bias, **rules), pool(values, scores, **rules))
    torch.testing.assert_close(_pool_placed(raw, bias, **rules), pool(values, scores, **rules))
