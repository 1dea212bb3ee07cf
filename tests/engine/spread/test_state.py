"""What is done to a sequence is done to its twins: they hold the same bits, whatever its history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo.cache.state import SNAPSHOT_TOKENS
from octavo.config.errors import LimitError, WorkerError
from octavo.engine.spread.orders import Order
from octavo.engine.spread.state import SpreadState
from tests.support.spread_pair import Pair, crew_of, pair, spread_folder

IDS = np.arange(6000) * 7 % 390 + 3


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(spread_folder(tmp_path_factory.mktemp("model")), chunk=1024) as made:
        yield made


def read(both: Pair, count: int) -> SpreadState:
    state = both.two.new_state()
    both.two.runner.read(IDS[:count], state)
    assert isinstance(state, SpreadState)
    return state


def test_forks_go_their_own_ways(both: Pair) -> None:
    state = read(both, 300)
    twin = state.fork()
    both.two.step(IDS[:9], state)
    both.two.step(IDS[50:90], twin)
    state.check_integrity()
    twin.check_integrity()
    state.close()
    both.two.step(IDS[:3], twin)
    twin.check_integrity()
    twin.close()


@pytest.mark.parametrize("n", [0, 3, 1000], ids=["nothing", "cut", "read again"])
def test_rolled_back(both: Pair, n: int) -> None:
    state, plain = read(both, SNAPSHOT_TOKENS + 1200), both.one.new_state()
    both.one.runner.read(IDS[: SNAPSHOT_TOKENS + 1200], plain)
    state.rollback(n)
    plain.rollback(n)
    state.check_integrity()
    found, expected = both.two.step(IDS[:5], state), both.one.step(IDS[:5], plain)
    assert (found - expected).abs().max() < 1e-3
    with pytest.raises(LimitError):
        state.rollback(state.length + 1)
    state.check_integrity()
    state.close()
    plain.close()


def test_what_comes_from_a_file_is_handed_on_when_it_is_needed(both: Pair, tmp_path: Path) -> None:
    text = "The keeper wrote the date. " * 200
    made = both.one.read(text, output=tmp_path / "a.octavo")
    opened = both.two.open(tmp_path / "a.octavo")
    state = opened.state
    assert isinstance(state, SpreadState)
    assert [adopted.sent for adopted in state._adopted] == [False] * len(state._adopted) != []
    forks = [state.fork() for _ in range(2)]
    for fork in forks:
        both.two.step(IDS[:20], fork)
        fork.check_integrity()
        fork.close()
    assert all(adopted.sent for adopted in state._adopted)
    state.check_integrity()
    opened.close()
    made.close()


def test_another_sequence_is_noticed(both: Pair) -> None:
    state = read(both, 100)
    state._ids[5] += 1
    with pytest.raises(AssertionError, match=r"ranks \[1\] hold another sequence than rank 0"):
        state.check_integrity()
    state.close()


def test_states_that_nobody_has_are_closed_everywhere(both: Pair) -> None:
    number = read(both, 10).number  # the state is gone here
    crew = crew_of(both.two)
    assert both.two.pool.allocator.used == 0
    assert number + 1 == crew.number()
    read(both, 10).check_integrity()


def test_a_twin_that_was_never_made_ends_the_model(tmp_path: Path) -> None:
    with pair(spread_folder(tmp_path)) as made:
        crew = crew_of(made.two)
        crew.tell(Order.ROLLBACK, 99, 1)
        with pytest.raises(WorkerError, match=r"worker 1 of 2 ended \(KeyError: 99\)"):
            made.two.logits(IDS[:10])
