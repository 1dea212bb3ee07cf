"""Time of a thread, told apart."""

from __future__ import annotations

import threading
import time

import pytest

from octavo.bench.waits import Clock, Moment, parts


def test_parts_are_differences_and_make_the_whole() -> None:
    found = parts(Moment(1.0, 7, 0.5, 0.25), Moment(2.0, 7, 0.75, 0.375))
    assert found is not None
    assert (found.whole, found.computed, found.without_core, found.blocked) == (1.0, 0.25, 0.125, 0.625)


@pytest.mark.parametrize("after", [Moment(2.0, 8, 0.75, 0.375), Moment(2.0, 7, 0.75, None)])
def test_what_cannot_be_compared_is_none(after: Moment) -> None:
    assert parts(Moment(1.0, 7, 0.5, 0.25), after) is None


def test_counts_that_overlap_by_rounding_leave_nothing_negative() -> None:
    found = parts(Moment(1.0, 7, 0.5, 0.0), Moment(1.1, 7, 0.601, 0.2))
    assert found is not None
    assert found.without_core == pytest.approx(0.1)
    assert found.blocked == 0.0


def test_a_thread_that_computes_and_one_that_waits() -> None:
    clock, gate = Clock(), threading.Event()
    begun = clock.moment()
    while time.thread_time() - begun.computed < 0.05:
        pass
    computed = parts(begun, clock.moment())
    before = clock.moment()
    gate.wait(0.2)  # nobody sets it
    blocked = parts(before, clock.moment())
    if computed is None or blocked is None:
        pytest.skip("this system does not tell what a thread waits for")
    assert computed.computed >= 0.05
    assert computed.blocked < computed.computed
    assert blocked.computed < 0.05
    assert blocked.blocked > 0.1
