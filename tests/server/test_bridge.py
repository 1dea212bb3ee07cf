"""Jobs as coroutines see them: every event in order, errors raised, and no job left running that nobody listens to."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace

import pytest

from octavo.config.errors import BusyError, LimitError, MissingError, TextError
from octavo.engine.answer import Finish
from octavo.engine.request import Request
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, Piece, Reading
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.engine.serving.service import Service
from octavo.server.bridge import Bridge
from octavo.server.errors import CancelledJob
from tests.support.serving import SECONDS, Overheard, Scripted, running, tiny_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tiny_service(tmp_path_factory.mktemp("model"))) as made:
        yield made


def job(id: str, *, length: int = 600, tokens: int = 5) -> Job:
    return Job(id=id, prompt=tuple(20 + place % 300 for place in range(length)), request=Request(max_tokens=tokens))


async def all_events(bridge: Bridge, asked: Job) -> list[Event]:
    return [event async for event in bridge.events(asked)]


def test_every_event_comes_in_order_and_ended_is_the_last(service: Service) -> None:
    events = asyncio.run(all_events(Bridge(service), job("whole")))
    kinds = [type(event) for event in events]
    assert kinds[-1] is Ended
    assert kinds.count(Ended) == 1
    assert Reading in kinds
    pieces = [event for event in events if isinstance(event, Piece)]
    assert sum(len(piece.tokens) for piece in pieces) == 5
    assert kinds == sorted(kinds, key=[Reading, Piece, Ended].index)


def test_jobs_at_the_same_time_keep_their_events_apart(service: Service) -> None:
    async def both() -> list[list[Event]]:
        bridge = Bridge(service)
        return await asyncio.gather(*(all_events(bridge, job(f"beside-{n}", tokens=3 + n)) for n in range(4)))

    for n, events in enumerate(asyncio.run(both())):
        assert {event.id for event in events} == {f"beside-{n}"}
        assert sum(len(event.tokens) for event in events if isinstance(event, Piece)) == 3 + n


def test_errors_of_submission_are_raised_before_any_event(service: Service) -> None:
    bridge = Bridge(service)
    with pytest.raises(LimitError, match="context"):
        asyncio.run(all_events(bridge, job("long", length=8193)))
    asked = Job(id="of-nothing", prompt=(30,), document="nothing")
    with pytest.raises(MissingError, match="nothing"):
        asyncio.run(all_events(bridge, asked))
    with pytest.raises(BusyError, match="full"):
        asyncio.run(all_events(Bridge(Scripted(error=BusyError("full"))), job("busy")))


def test_failed_raises_its_error_and_cancelled_says_why() -> None:
    failed = Failed(id="a", error=TextError("no text"))
    with pytest.raises(TextError, match="no text"):
        asyncio.run(all_events(Bridge(Scripted(failed)), job("a")))
    with pytest.raises(CancelledJob, match="the service ends") as told:
        asyncio.run(all_events(Bridge(Scripted(Cancelled(id="a", why="the service ends"))), job("a")))
    assert not told.value.late


def test_job_that_is_over_is_not_cancelled() -> None:
    service = Scripted(Ended(id="a", finish=Finish.END))
    asyncio.run(all_events(Bridge(service), job("a")))
    gc.collect()
    assert service.cancelled == []


def test_leaving_early_cancels_the_job(service: Service) -> None:
    overheard = Overheard(service)

    async def leave() -> None:
        async with aclosing(Bridge(overheard).events(job("left", tokens=5000))) as events:
            async for event in events:
                if isinstance(event, Piece):
                    break

    asyncio.run(leave())
    end = overheard.next_end()
    assert isinstance(end, Cancelled)
    assert end.why == "the client went away"
    service.check_integrity()


def test_cancelled_task_cancels_its_job(service: Service) -> None:
    overheard = Overheard(service)

    async def stop() -> None:
        begun = asyncio.Event()

        async def listen() -> None:
            async for _ in Bridge(overheard).events(job("stopped", tokens=5000)):
                begun.set()

        task = asyncio.create_task(listen())
        await asyncio.wait_for(begun.wait(), SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())
    assert isinstance(overheard.next_end(), Cancelled)


def test_task_cancelled_while_it_submits_leaves_no_job() -> None:
    entered, go = threading.Event(), threading.Event()

    class Slow(Scripted):
        def submit(self, job: Job, tell: object) -> None:
            entered.set()
            assert go.wait(SECONDS)

    service = Slow()

    async def stop() -> None:
        task = asyncio.create_task(Bridge(service).submit(job("slow")))
        await asyncio.to_thread(entered.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.cancelled == []
        go.set()
        assert await asyncio.to_thread(service.was_cancelled.wait, SECONDS)

    asyncio.run(stop())
    assert service.cancelled == ["slow"]


def test_grammars_that_take_long_hold_up_no_other_job() -> None:
    go = threading.Event()

    class Slow(Scripted):
        def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
            if job.grammar is not None:
                assert go.wait(SECONDS)
            super().submit(job, tell)

    service = Slow(Ended(id="a", finish=Finish.END))
    slow = [replace(job(f"slow-{n}"), grammar=Grammar(kind=GrammarKind.JSON)) for n in range(64)]

    async def run() -> None:
        bridge = Bridge(service)
        waiting = [asyncio.create_task(all_events(bridge, one)) for one in slow]
        await asyncio.wait_for(all_events(bridge, job("quick")), SECONDS)
        assert [one.id for one in service.jobs] == ["quick"]
        go.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert len(service.jobs) == 65


def test_submission_keeps_the_context_of_its_request() -> None:
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    heard: list[str] = []

    class Hearing(Scripted):
        def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
            heard.append(caller.get())
            super().submit(job, tell)

    async def run() -> None:
        caller.set("me")
        await all_events(Bridge(Hearing(Ended(id="a", finish=Finish.END))), job("a"))

    asyncio.run(run())
    assert heard == ["me"]


def test_submission_that_nobody_iterates_over_is_cancelled_with_its_last_reference() -> None:
    service = Scripted()

    async def lose() -> None:
        submission = await Bridge(service).submit(job("lost"))
        assert service.cancelled == []
        del submission
        gc.collect()

    asyncio.run(lose())
    assert service.cancelled == ["lost"]


def test_submission_collected_on_a_lane_is_cancelled_by_the_loop_and_not_there(service: Service) -> None:
    """A collection may come while a lane decides, under the service's lock, what runs next: that must not change."""

    async def lost() -> str:
        bridge = Bridge(service)
        submission = await bridge.submit(job("collected", tokens=100_000))

        def collect() -> str:
            nonlocal submission
            with service._change:
                submission = None  # type: ignore[assignment]
                gc.collect()
                why = service._works["collected"].watch.why
            return "cancelled under the lock" if why else "left alone"

        found = await asyncio.to_thread(collect)
        deadline = asyncio.get_running_loop().time() + SECONDS
        while "collected" in service._works and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0)
        return found

    assert asyncio.run(lost()) == "left alone"
    assert "collected" not in service._works


def test_events_after_the_loop_has_ended_reach_nobody_and_raise_nothing() -> None:
    kept = []

    class Keeping(Scripted):
        def submit(self, job: Job, tell: object) -> None:
            kept.append(tell)

    async def begin() -> None:
        (await Bridge(Keeping()).submit(job("a"))).close()

    asyncio.run(begin())
    kept[0](Reading(id="a", done=1, total=2))


def test_blocking_work_runs_in_another_thread() -> None:
    here = threading.get_ident()
    assert asyncio.run(Bridge(Scripted()).run_blocking(threading.get_ident)) != here
