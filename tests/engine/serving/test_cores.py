"""Cores of lanes, as the system sees them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from octavo.engine.serving.cores import Cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no such call on this system")


@pytest.fixture
def allowed() -> Iterator[set[int]]:
    yield (before := os.sched_getaffinity(0))
    os.sched_setaffinity(0, before)


def told(work: Callable[[], None]) -> set[int]:
    """The cores of a thread behind `work`."""
    found: list[set[int]] = []

    def run() -> None:
        work()
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_lanes_that_all_work_have_a_core_each_and_give_it_back(allowed: set[int]) -> None:
    if len(allowed) < 2:
        pytest.skip("one core")
    cores = Cores(len(allowed))
    apart = [told(lambda lane=lane: cores.take(lane, apart=True)) for lane in range(len(allowed))]
    assert [len(one) for one in apart] == [1] * len(allowed)
    assert set().union(*apart) == allowed

    def both() -> None:
        cores.take(0, apart=True)
        cores.take(0, apart=False)

    assert told(both) == allowed
    assert os.sched_getaffinity(0) == allowed  # of this thread, which is no lane


def test_with_cores_to_spare_or_too_few_the_system_decides(allowed: set[int]) -> None:
    for lanes in (len(allowed) + 1, max(1, len(allowed) - 1), 1):
        if lanes == len(allowed) > 1:
            continue
        cores = Cores(lanes)
        assert told(lambda cores=cores: cores.take(0, apart=True)) == allowed


def test_cores_that_were_taken_away_are_no_failure(allowed: set[int]) -> None:
    if len(allowed) < 2:
        pytest.skip("one core")
    cores = Cores(len(allowed))
    missing = frozenset((10**4,))
    cores._own[0] = missing
    assert told(lambda: cores.take(0, apart=True)) == allowed
    assert told(lambda: cores.take(1, apart=True)) == allowed
