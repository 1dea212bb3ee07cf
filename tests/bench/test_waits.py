"""Time of a thread, told apart."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from octavo.bench.waits import Cause, Clock, Moment, Parts, cause, parts


def test_parts_are_differences_and_make_the_whole() -> None:
    found = parts(Moment(1.0, 7, 0.5, 0.25), Moment(2.0, 7, 0.75, 0.375))
    assert found is not None
    assert (found.whole, found.computed, found.without_core, found.blocked) == (1.0, 0.25, 0.125, 0.625)


def test_parts_tell_what_others_computed_and_what_collecting_took() -> None:
    found = parts(Moment(1.0, 7, 0.5, 0.25, 3.0, 0.5), Moment(2.0, 7, 0.75, 0.375, 4.0, 0.625))
    assert found is not None
    assert (found.others, found.collecting) == (0.75, 0.125)


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


@pytest.mark.parametrize(("others", "idle"), [(0.0, 4.0), (8.0, 2.0), (10.0, 0.0), (30.0, 0.0)])
def test_waiting_for_a_thread_that_did_not_compute_is_the_machines(others: float, idle: float) -> None:
    gap = Parts(whole=10.0, computed=1.0, without_core=5.0, blocked=4.0, others=others)
    assert (gap.idle, gap.own) == (idle, 5.0 - idle)


def test_collections_count_within_with_alone() -> None:
    clock = Clock()
    with clock:
        before = clock.moment()
        gc.collect()
        within = clock.moment()
    gc.collect()
    assert within.collecting > before.collecting
    assert clock.moment().collecting == within.collecting
    assert clock._collects not in gc.callbacks


@pytest.mark.parametrize(
    ("expected", "computed", "without_core", "others", "collecting"),
    [
        (Cause.COLLECTING, 1.0, 0.0, 9.0, 5.0),
        (Cause.CORE, 1.0, 7.0, 10.0, 0.0),
        (Cause.HOLDER, 1.0, 1.0, 2.0, 0.0),
        (Cause.WAITED, 1.0, 1.0, 9.0, 0.0),
        (Cause.COMPUTED, 9.0, 0.0, 10.0, 0.0),
    ],
)
def test_a_long_gap_has_the_cause_that_took_most(
    expected: Cause, computed: float, without_core: float, others: float, collecting: float
) -> None:
    blocked = 10.0 - computed - without_core
    gap = Parts(
        whole=10.0, computed=computed, without_core=without_core, blocked=blocked, others=others, collecting=collecting
    )
    assert cause(gap, 1.0) is expected
