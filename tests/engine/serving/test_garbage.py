"""When Python looks for garbage while a service runs."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from octavo.engine.serving.garbage import _BUSY, _IDLE, Garbage


class Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == frozen


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    made = Garbage()
    made.begin()
    yield made
    made.end()


def test_what_is_old_is_not_looked_through_by_itself(garbage: Garbage) -> None:
    seen: list[int] = []

    def collected(phase: str, told: dict[str, int]) -> None:
        if phase == "start":
            seen.append(told["generation"])

    gc.callbacks.append(collected)
    try:
        held = [[number] for number in range(300_000)]
    finally:
        gc.callbacks.remove(collected)
    assert len(held) == 300_000
    assert set(seen) == {0, 1}
    assert gc.get_count()[2] >= _IDLE
    assert garbage.due(idle=True)
    assert not garbage.due(idle=False)


def test_a_look_takes_what_died_in_circles_and_nothing_is_due_then(garbage: Garbage) -> None:
    node = Node()
    gone = weakref.ref(node)
    held = [[number] for number in range(_IDLE * 4000)]
    del node
    assert garbage.due(idle=True)
    garbage.look()
    assert gone() is None
    assert not garbage.due(idle=True)
    assert len(held) == _IDLE * 4000


def test_under_a_load_that_never_ends_it_is_due_later(garbage: Garbage) -> None:
    for _ in range(_IDLE):
        gc.collect(1)
    assert garbage.due(idle=True)
    assert not garbage.due(idle=False), "a job waits: not yet"
    for _ in range(_BUSY - _IDLE):
        gc.collect(1)
    assert garbage.due(idle=False)
    garbage.look()
    assert not garbage.due(idle=False)


def test_one_thread_looks_and_another_goes_on(garbage: Garbage) -> None:
    begun, other = threading.Event(), threading.Event()

    def during(phase: str, told: dict[str, int]) -> None:
        if phase == "start" and told["generation"] == 2 and not begun.is_set():
            begun.set()
            assert other.wait(10)

    gc.callbacks.append(during)
    try:
        first = threading.Thread(target=garbage.look)
        first.start()
        assert begun.wait(10)
        garbage.look()  # returns while the first one is at it
        other.set()
        first.join(10)
    finally:
        gc.callbacks.remove(during)
    assert not first.is_alive()


def test_a_collector_that_is_off_stays_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        garbage = Garbage()
        garbage.begin()
        assert gc.get_threshold()[0] == 0
        garbage.end()
        garbage.end()
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
