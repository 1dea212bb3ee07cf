"""Sums and gatherings: right, the same on every rank, in the ranks' order, and an error where a rank is gone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo.config.errors import UsageError
from octavo.engine.spread.team import Team
from tests.support.spread_ranks import on_ranks


def values(rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    # sizes so different that the order of a sum shows in its bits
    scale = 10.0 ** (3 * rank)
    made = torch.randn(shape, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    return (made * scale).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5), (1,), (301, 173)], ids=["small", "one", "large and odd"])
def test_sums_are_those_of_the_ranks_in_their_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    parts = [values(rank, shape, dtype).to(wide) for rank in range(3)]
    expected = ((parts[0] + parts[1]) + parts[2]).to(dtype)
    found = on_ranks(3, lambda team: team.add(values(team.rank, shape, dtype)))
    assert all(torch.equal(one, expected) and one.dtype == dtype for one in found)
    other = (parts[0] + (parts[1] + parts[2])).to(dtype)
    assert shape == (1,) or dtype == torch.bfloat16 or not torch.equal(other, expected)


def test_sums_take_tensors_that_do_not_lie_together() -> None:
    def work(team: Team) -> Tensor:
        return team.add(torch.arange(6.0).view(2, 3).t() * (team.rank + 1))

    assert all(torch.equal(one, torch.arange(6.0).view(2, 3).t() * 3) for one in on_ranks(2, work))


@pytest.mark.parametrize("dim", [0, 1])
def test_gathered_in_the_ranks_order(dim: int) -> None:
    found = on_ranks(3, lambda team: team.gather(torch.full((2, 4), team.rank), dim=dim))
    expected = torch.cat([torch.full((2, 4), rank) for rank in range(3)], dim=dim)
    assert all(torch.equal(one, expected) for one in found)


def test_nothing_is_exchanged_for_no_rows() -> None:
    found = on_ranks(2, lambda team: (team.add(torch.empty(0, 4)), team.gather(torch.empty(0, 4), dim=1)))
    assert all(a.shape == (0, 4) and b.shape == (0, 8) for a, b in found)


def test_alone_it_is_what_it_was() -> None:
    [(added, gathered)] = on_ranks(1, lambda team: (team.add(torch.ones(3)), team.gather(torch.ones(3), dim=0)))
    assert torch.equal(added, torch.ones(3))
    assert torch.equal(gathered, torch.ones(3))


def test_outside_of_an_order_nothing_runs() -> None:
    def work(team: Team) -> str:
        team.open = False
        assert not team.open
        with pytest.raises(UsageError) as error:
            team.add(torch.ones(1))
        return str(error.value)

    said = on_ranks(2, work)
    assert said[0] == ("the model is spread over 2 workers; only its runner may run it, since all must run at once")


@pytest.mark.parametrize("size", [1, 1 << 16], ids=["small", "large"])
def test_a_rank_that_has_gone_is_an_error(size: int) -> None:
    def work(team: Team) -> bool:
        if team.rank == 1:
            return True
        found = 0
        for _ in range(3):
            try:
                team.add(torch.ones(size))
            except RuntimeError:
                found += 1
        return found > 0

    assert on_ranks(2, work) == [True, True]


def test_a_rank_that_says_nothing_is_an_error_after_its_time() -> None:
    import threading

    over = threading.Event()

    def work(team: Team) -> bool:
        if team.rank == 1:
            return over.wait(30)
        with pytest.raises(RuntimeError, match="(?i)timed? ?out"):
            team.add(torch.ones(1))
        over.set()
        return True

    assert on_ranks(2, work, seconds=1.0) == [True, True]
