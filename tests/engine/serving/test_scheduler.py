from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.config.errors import BusyError, LimitError, UsageError
from octavo.engine.serving.scheduler import PASSES, Kind, Rules, Scheduler, Task


class World:
    """A scheduler, its pages and what its jobs have read and made: the caller's part, task by task."""

    def __init__(self, **rules: int) -> None:
        self.rules = Rules(**{"total_pages": 1000, "lanes": 1, **rules})
        self.scheduler = Scheduler(self.rules)
        self.length: dict[str, int] = {}  # tokens in pages
        self.before: dict[str, int] = {}
        self.log: list[Task] = []

    def add(self, id: str, prompt: int = 10, most: int = 100, priority: int = 0, before: int = 0) -> None:
        self.scheduler.add(id, prompt=prompt, most=most, priority=priority, before=before)
        self.length[id], self.before[id] = 0, before % self.rules.page_tokens

    def free(self) -> int:
        page = self.rules.page_tokens
        return self.rules.total_pages - sum(-(-(n + self.before[id]) // page) for id, n in self.length.items() if n)

    def next(self) -> Task | None:
        task = self.scheduler.next(free_pages=self.free())
        self.scheduler.check_integrity()
        if task is not None:
            self.log.append(task)
        return task

    def done(self, task: Task) -> None:
        if task.kind in (Kind.READ, Kind.ANSWER):
            self.length[task.id] += task.count
        saved = self.saved = getattr(self, "saved", {})
        if task.kind is Kind.SAVE:
            saved[task.id], self.length[task.id] = self.length[task.id], 0
        if task.kind is Kind.RESTORE:
            self.length[task.id] = saved[task.id]
        assert self.free() >= 0, "more pages than there are"
        self.scheduler.done(
            task.id, read=task.count * (task.kind is Kind.READ), answered=task.count * (task.kind is Kind.ANSWER)
        )
        self.scheduler.check_integrity()

    def step(self) -> Task:
        task = self.next()
        assert task is not None
        self.done(task)
        return task

    def answering(self, *ids: str, priority: int = 0) -> None:
        for id in ids:
            self.add(id, priority=priority)
            while self.length[id] < 10:
                self.step()


def test_a_job_is_started_read_and_answered() -> None:
    world = World(chunk=8, read_alone=1, burst=3)
    world.add("a", prompt=20, most=5)
    tasks = [world.step() for _ in range(6)]
    kinds = [(task.kind, task.count) for task in tasks]
    assert kinds == [("start", 0), ("read", 8), ("read", 8), ("read", 4), ("answer", 3), ("answer", 2)]
    world.scheduler.remove("a")
    assert not world.scheduler.known("a")
    assert world.next() is None


def test_reading_ends_at_multiples_from_the_beginning_of_the_sequence() -> None:
    world = World(chunk=8, read_alone=2)
    world.add("a", prompt=40, before=3)
    assert [world.step().count for _ in range(4)] == [0, 13, 16, 11]


def test_beside_a_job_that_answers_parts_of_a_chunk_are_read() -> None:
    world = World(chunk=8, beside=2, read_alone=2)
    world.add("a", prompt=3, most=20)
    while world.step().kind != "answer":
        pass
    world.add("b", prompt=31, before=1)
    reads = [task.count for task in (world.step() for _ in range(12)) if task.kind == "read"]
    assert reads == [1, 2, 2, 2, 2]
    world.scheduler.remove("a")
    assert world.step().count == 24 - 10, "alone, two chunks' ends are gone to again"
    with pytest.raises(UsageError, match="beside is 3; it must divide chunk, which is 8"):
        World(chunk=8, beside=3)


def test_a_cached_prefix_is_not_read_again() -> None:
    world = World(chunk=8, read_alone=1)
    world.add("a", prompt=20)
    assert world.next() == Task(kind=Kind.START, id="a")
    world.scheduler.done("a", read=13)
    assert [world.step().count for _ in range(3)] == [3, 4, 1]


def test_refusals_name_value_and_limit() -> None:
    world = World(total_pages=4, page_tokens=10, ahead_tokens=10, max_queue=1)
    with pytest.raises(LimitError, match="prompt is 21 tokens and needs 5 pages with its answer; there are 4"):
        world.add("a", prompt=21)
    world.add("a", prompt=20)
    with pytest.raises(UsageError, match="'a'"):
        world.add("a")
    with pytest.raises(BusyError, match="1 jobs wait already; the limit is 1"):
        world.add("b")
    with pytest.raises(UsageError, match="prompt is 0"):
        world.add("c", prompt=0)
    with pytest.raises(UsageError, match="burst is 0; it must be at least 1"):
        Rules(total_pages=1, burst=0)


def test_a_busy_job_cannot_be_removed_and_unknown_ones_are_ignored() -> None:
    world = World()
    world.scheduler.remove("nobody")
    world.add("a")
    world.next()
    assert world.scheduler.busy("a")
    with pytest.raises(AssertionError):
        world.scheduler.remove("a")
    with pytest.raises(AssertionError):
        world.scheduler.done("b")
    counts = world.scheduler.counts()
    assert (counts.waiting, counts.reading, counts.busy) == (0, 1, 1)


def test_one_lane_gives_every_stream_a_step_between_two_chunks() -> None:
    world = World(chunk=8)
    world.answering("a", "b", "c")
    world.add("long", prompt=800)
    world.log.clear()
    for _ in range(80):
        world.step()
    assert sum(task.kind is Kind.READ for task in world.log) > 10
    others = [number for number, task in enumerate(world.log) if task.kind is not Kind.ANSWER]
    for first, second in pairwise(others):
        assert sorted(task.id for task in world.log[first + 1 : second]) == ["a", "b", "c"]
    assert {task.count for task in world.log if task.kind is Kind.READ} == {8}


def test_two_lanes_keep_one_for_answers() -> None:
    world = World(chunk=8, lanes=2)
    world.answering("a")
    for id in ("b", "c"):
        world.add(id, prompt=80)
    tasks = [world.next(), world.next()]
    assert sorted(task.kind for task in tasks if task) == ["answer", "start"]
    assert world.next() is None
    for _ in range(50):
        task = tasks.pop(0)
        assert task is not None
        world.done(task)
        tasks.append(world.next())
        busy = [one.kind for one in tasks if one]
        assert sum(kind is not Kind.ANSWER for kind in busy) <= 1
        assert Kind.ANSWER in busy


def test_equal_priorities_take_turns() -> None:
    world = World()
    world.answering("a", "b", "c")
    served = [world.step().id for _ in range(30)]
    for first in range(0, 30, 3):
        assert sorted(served[first : first + 3]) == ["a", "b", "c"]


@pytest.mark.parametrize(("high", "times"), [(10, 2), (20, 4), (100, 16)])
def test_priority_is_a_weight_and_starves_nobody(high: int, times: int) -> None:
    world = World()
    world.add("low")
    world.add("high", priority=high)
    for _ in range(5):
        world.step()
    served = [world.step().id for _ in range(17 * 20)]
    assert served.count("high") == pytest.approx(times * served.count("low"), rel=0.1)


def test_short_prompts_come_first_but_a_long_one_goes_on() -> None:
    world = World(chunk=8, read_alone=1)
    world.add("long", prompt=400, most=1)
    for number in range(60):
        world.add(f"s{number}", prompt=24, most=1)
    while world.scheduler.counts().waiting:
        world.step()
    world.log.clear()
    for _ in range(30):
        world.step()
    ids = [task.id for task in world.log if task.kind is Kind.READ]
    assert len(ids) > 10
    assert ids.count("long") == pytest.approx(len(ids) / 2, abs=1)
    shorts = [id for id in ids if id != "long"]
    assert shorts == sorted(shorts)


def test_reading_prefers_priority_and_serves_the_oldest_of_all_now_and_then() -> None:
    world = World(chunk=8, read_alone=1)
    world.add("low", prompt=800)
    world.step()
    world.add("high", prompt=800, priority=5)
    world.step()
    ids = [world.step().id for _ in range(16)]
    assert ids.count("low") == 2
    assert ids.count("high") == 14


def test_admission_is_by_priority_then_arrival() -> None:
    world = World(read_alone=1)
    for id, priority in (("a", 0), ("b", 3), ("c", 3), ("d", 9)):
        world.add(id, priority=priority)
    assert [world.step().id for _ in range(4)] == ["d", "b", "c", "a"]


def test_small_jobs_pass_a_large_one_a_limited_number_of_times() -> None:
    world = World(total_pages=40, page_tokens=10, ahead_tokens=10)
    world.add("base", prompt=100, most=10)
    world.step()
    world.add("large", prompt=300, most=10)
    for number in range(PASSES + 5):
        world.add(f"s{number}", prompt=1, most=1)
    started = set()
    for _ in range(400):
        task = world.step()
        if task.kind is Kind.START:
            started.add(task.id)
        if task.kind is Kind.READ and task.id.startswith("s"):
            world.length[task.id] = 0
            world.scheduler.remove(task.id)
        if task.id == "base" and len(world.log) > 300 and world.scheduler.known("base"):
            assert len(started) == PASSES
            world.length["base"] = 0
            world.scheduler.remove("base")
        if task.id == "large":
            return
    raise AssertionError("the large job never started")


def test_growth_saves_the_youngest_of_the_lowest() -> None:
    world = World(total_pages=12, page_tokens=10, ahead_tokens=10)
    for id, priority in (("a", 0), ("b", 0), ("c", 1)):
        world.add(id, prompt=10, most=500, priority=priority)
    while not any(task.kind is Kind.SAVE for task in world.log):
        world.step()
    assert world.log[-1] == Task(kind=Kind.SAVE, id="b")
    assert world.scheduler.counts().swapped == 1


def test_a_waiting_job_of_higher_priority_takes_a_running_ones_place() -> None:
    world = World(max_running=1)
    world.answering("low")
    world.add("equal")
    for _ in range(5):
        assert world.step().id == "low"
    world.add("high", prompt=10, priority=1)
    tasks = [world.step() for _ in range(4)]
    assert [task.kind for task in tasks if task.kind is not Kind.ANSWER][:2] == ["save", "start"]
    while world.scheduler.counts().answering == 0:
        world.step()
    world.scheduler.remove("high")
    world.length["high"] = 0
    restored = world.step()
    assert (restored.kind, restored.id) == ("restore", "low")


def test_a_restored_job_does_something_before_it_is_saved_again() -> None:
    world = World(max_running=1)
    world.answering("low")
    world.add("high", priority=1)
    while world.scheduler.counts().answering == 0 or not world.scheduler.counts().swapped:
        world.step()
    world.scheduler.remove("high")
    world.length["high"] = 0
    restored = world.next()
    assert restored == Task(kind=Kind.RESTORE, id="low")
    world.add("higher", priority=2)
    world.done(restored)
    assert [world.step().kind for _ in range(3)] == ["answer", "save", "start"]


def test_a_job_alone_that_outgrows_everything_is_left_to_the_caller() -> None:
    scheduler = Scheduler(Rules(total_pages=3, page_tokens=10, lanes=1, ahead_tokens=5))
    scheduler.add("a", prompt=10, most=1000)
    for answered in range(40):
        task = scheduler.next(free_pages=max(3 - (10 + answered) // 10, 0))
        assert task is not None
        scheduler.done("a", read=task.count * (task.kind is Kind.READ), answered=int(task.kind is Kind.ANSWER))
    assert task.kind is Kind.ANSWER


def test_pages_that_are_held_from_outside_do_not_stop_the_only_job() -> None:
    scheduler = Scheduler(Rules(total_pages=10, page_tokens=10))
    scheduler.add("a", prompt=50, most=10)
    assert scheduler.next(free_pages=0) == Task(kind=Kind.START, id="a")


def test_shared_pages_leave_room_for_others() -> None:
    scheduler = Scheduler(Rules(total_pages=12, page_tokens=10, lanes=2, ahead_tokens=10))
    for id in ("a", "b"):
        scheduler.add(id, prompt=60, most=10)
    assert scheduler.next(free_pages=12) == Task(kind=Kind.START, id="a")
    assert scheduler.next(free_pages=12) is None
    scheduler.done("a", read=50, shared_pages=5)
    assert scheduler.next(free_pages=12) == Task(kind=Kind.START, id="b")


JOBS = st.tuples(st.integers(1, 90), st.integers(1, 150), st.integers(-20, 20), st.integers(0, 25))
STEPS = st.lists(st.one_of(JOBS, st.integers(0, 9)), min_size=1, max_size=120)


def drive(steps: list, rules: dict[str, int]) -> list[Task]:
    """Adds jobs, cancels some, ends tasks in any order; at the end every job must end. Returns the tasks."""
    world = World(**rules)
    under_way: list[Task] = []
    limits: dict[str, int] = {}
    made: dict[str, int] = {}
    cancelled: set[str] = set()

    def end(index: int) -> None:
        task = under_way.pop(index)
        world.done(task)
        made[task.id] += task.count * (task.kind is Kind.ANSWER)
        if made[task.id] >= limits[task.id] or task.id in cancelled:
            drop(task.id)

    def drop(id: str) -> None:
        world.scheduler.remove(id)
        world.length[id] = 0
        world.scheduler.check_integrity()

    def fill() -> None:
        while (task := world.next()) is not None:
            under_way.append(task)
        assert under_way or not any(map(world.scheduler.known, limits)), "jobs wait and nothing runs"

    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            prompt, most, priority, before = step
            id = f"j{number}"
            try:
                world.add(id, prompt, most, priority, before)
            except (LimitError, BusyError):
                continue
            limits[id], made[id] = most, 0
        elif under_way and step < 7:
            end(step % len(under_way))
        elif known := [id for id in limits if world.scheduler.known(id)]:
            id = known[step * 7 % len(known)]
            cancelled.add(id)
            if not world.scheduler.busy(id):
                drop(id)
        fill()
    for _ in range(30000):
        if not under_way:
            break
        end(0)
        fill()
    assert not any(map(world.scheduler.known, limits)), "a job never ends"
    assert world.free() == world.rules.total_pages
    return world.log


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, lanes=st.integers(1, 4), burst=st.integers(1, 12), running=st.integers(1, 6))
def test_every_job_ends_within_the_pages_whatever_comes(steps: list, lanes: int, burst: int, running: int) -> None:
    # 28 pages: the longest job (25 + 90 + 150 tokens) fits alone, with the page for a copy
    rules = {"total_pages": 28, "page_tokens": 10, "lanes": lanes, "burst": burst, "chunk": 16, "read_alone": 3}
    rules |= {"max_running": running, "max_queue": 20, "ahead_tokens": 20}
    assert drive(steps, rules) == drive(steps, rules)
