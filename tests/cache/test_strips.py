"""Tails that grow in place: the same rows as joined tensors, and no row that was handed out ever changes."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import torch

from octavo.cache import strips as strips_module
from octavo.cache.strips import Strips
from tests.support.sequences import World, token_ids


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_same_rows_as_joined(dtype: torch.dtype) -> None:
    strips, tail, keep = Strips(), torch.empty(0, 3, dtype=dtype), 7
    expected = tail
    for step, count in enumerate([20, *[1] * 60, 3, 30, *[2] * 40]):
        new = (torch.arange(3 * count).view(count, 3) + step).to(dtype)
        expected = torch.cat((expected, new))
        drop = max(len(tail) + count - keep, 0)
        used = step % (len(expected) + 1)
        last, tail = strips.extend("a", tail, new, drop=drop, used=used)
        assert (last is None) == (used == 0)
        assert last is None or torch.equal(last, expected[-used:])
        expected = expected[-keep:]
        assert torch.equal(tail, expected)


@torch.no_grad()
def test_rows_move_only_when_the_room_is_used_up() -> None:
    strips, tail = Strips(), torch.zeros(8, 2)
    places = set()
    for _ in range(64):
        _, tail = strips.extend("a", tail, torch.ones(1, 2), drop=1, used=0)
        places.add(tail.untyped_storage().data_ptr())
    assert len(places) <= 8


@torch.no_grad()
def test_rows_that_were_handed_out_never_change() -> None:
    strips = Strips()
    _, tail = strips.extend("a", torch.zeros(4, 2), torch.ones(1, 2), drop=0, used=0)
    held = []
    for value in range(2, 40):  # from the same tail on, again and again, as after a rollback or a lost step
        _, other = strips.extend("a", tail, torch.full((1, 2), float(value)), drop=0, used=0)
        held.append((other, other.clone()))
        _, further = strips.extend("a", other, torch.full((1, 2), -1.0), drop=1, used=0)
        held.append((further, further.clone()))
    assert all(torch.equal(rows, before) for rows, before in held)


def test_gradients_and_names_are_kept_apart() -> None:
    strips, old = Strips(), torch.zeros(4, 2)
    new = torch.ones(1, 2, requires_grad=True)
    both, _ = strips.extend("a", old, new, drop=0, used=5)
    assert both is not None
    assert both.requires_grad
    with torch.no_grad():
        _, a = strips.extend("a", old, torch.ones(1, 2), drop=0, used=0)
        _, b = strips.extend("b", old, torch.full((1, 2), 2.0), drop=0, used=0)
    assert (a[-1].tolist(), b[-1].tolist()) == ([1.0, 1.0], [2.0, 2.0])


def test_tokens_one_by_one_after_fork_and_rollback_are_as_in_one_line() -> None:
    world = World()
    ids, other = token_ids(60), token_ids(9, seed=5)
    straight, state = world.new_state(), world.new_state()
    world.read(ids[:40], straight)
    world.read(ids[:40], state)
    for token in ids[40:].reshape(-1, 1):
        world.read(token, straight)
        twin = state.fork()
        for wrong in other[:3].reshape(-1, 1):  # the twin and the state write behind the same rows
            world.read(wrong, twin)
        world.read(other[3:5], state)
        state.rollback(2)
        world.read(token, state)
        twin.close()
    assert torch.equal(world.step(other, state), world.step(other, straight))


@torch.no_grad()
def test_room_is_taken_once_its_rows_are_written() -> None:
    strips, old = Strips(), torch.arange(16.0).view(8, 2)
    assert strips.grow("a", old, 1, drop=0) is not None
    strips.give_back("a", old, 1)
    strips.room("a", old, 100)
    strip = strips._strips["a"]
    strip.cells[strip.end : strip.end + 3] = 7.0
    taken = strips.take("a", 3, kept=5)
    assert torch.equal(taken, torch.cat((old[-2:], torch.full((3, 2), 7.0))))
    grown = strips.grow("a", taken, 1, drop=1)
    assert grown is not None
    assert grown[0] == taken.data_ptr() + taken.nbytes, "straight behind the rows that were taken"
    assert torch.equal(old, torch.arange(16.0).view(8, 2))


@torch.no_grad()
def test_no_other_thread_runs_python_while_rows_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for Python gets it where this one lets go of it for as long as the copy takes."""
    old, gate, ran, seen = torch.zeros(1024, 1 << 14), threading.Lock(), list[str](), list[tuple[int, int]]()
    copy = strips_module._copy

    def other() -> None:
        with gate:
            ran.append("other")

    def watched(to: int, of: int, nbytes: int) -> None:
        gate.release()
        until = time.perf_counter() + 0.05
        while time.perf_counter() < until:  # Python is held, until the other waits for it
            pass
        before = len(ran)
        copy(to, of, nbytes)
        seen.append((before, len(ran)))

    monkeypatch.setattr(strips_module, "_copy", watched)
    gate.acquire()
    interval, thread = sys.getswitchinterval(), threading.Thread(target=other)
    thread.start()
    sys.setswitchinterval(30.0)
    try:
        Strips().room("a", old, 1)
    finally:
        sys.setswitchinterval(interval)
        thread.join(10)
    assert seen == [(0, 0)]
    assert ran == ["other"]
