"""From asyncio to the service's threads and back.

Covers: submitting a job, its events as an asynchronous iterator, cancelling what nobody listens to any more, blocking
work in threads. Does not cover: what events mean (`turn`), sending them (`stream`). Loads no torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from octavo.engine.serving.events import Cancelled, Ended, Event, Failed
from octavo.engine.serving.job import Job
from octavo.server.errors import CancelledJob

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

GRAMMAR_THREADS = 2
P = ParamSpec("P")
T = TypeVar("T")


class Submission:
    """A job under way. Its events can be taken once; `close` cancels it, and so does losing the last reference."""

    def __init__(self, service: Service, job: Job) -> None:
        """Nothing is submitted yet; see `Bridge.submit`."""
        self.id = job.id
        self._service, self._job = service, job
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = True
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def begin(self, threads: Executor | None) -> None:
        """Submit on one of `threads` (None: the loop's own). Raises what `Service.submit` raises."""
        loop = self._loop = asyncio.get_running_loop()
        context, service, job, tell = copy_context(), self._service, self._job, _teller(loop, self._events)
        submitting = loop.run_in_executor(threads, lambda: context.run(service.submit, job, tell))
        try:
            await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(self._drop)
            raise
        self._over = False

    def _drop(self, submitting: asyncio.Future[None]) -> None:
        """Whoever wanted the job was cancelled while it was being submitted."""
        self._over = submitting.cancelled() or submitting.exception() is not None
        self.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Every event up to and with Ended. Raises CancelledJob for Cancelled, the error itself for Failed."""
        try:
            while not self._over:
                event = await self._events.get()
                self._over = isinstance(event, Ended | Cancelled | Failed)
                if isinstance(event, Cancelled):
                    raise CancelledJob(event.why)
                if isinstance(event, Failed):
                    raise event.error
                yield event
        finally:
            self.close()

    def close(self, why: str = "the client went away") -> None:
        """Cancel the job unless it is over. Closing twice is fine."""
        if not self._over:
            self._over = True
            self._service.cancel(self.id, why)

    def __del__(self) -> None:
        # A response whose client left before its first byte never starts its iterator, so nothing else would end it.
        # Collected on a lane, in the middle of what the service decides under its lock, it must not change that.
        loop = self._loop
        if self._over or loop is None:
            return
        self._over = True
        try:
            loop.call_soon_threadsafe(self._service.cancel, self.id, "the client went away")
        except RuntimeError:  # the loop is closed, and the server with it
            self._service.cancel(self.id, "the client went away")


class Bridge:
    """The service as coroutines see it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        # Compiling a stranger's grammar may take seconds: those that wait for it must not hold up all others.
        self._grammar_threads = ThreadPoolExecutor(GRAMMAR_THREADS, "octavo-grammar")

    async def submit(self, job: Job) -> Submission:
        """Hand `job` over now, so that what is wrong with it is known before anything is sent."""
        submission = Submission(self.service, job)
        await submission.begin(None if job.grammar is None else self._grammar_threads)
        return submission

    async def events(self, job: Job) -> AsyncIterator[Event]:
        """Submit at the first step and give every event up to and with Ended; leaving early cancels the job.

        Raises the errors of `Service.submit`, CancelledJob for Cancelled and the error itself for Failed.
        """
        submission = await self.submit(job)
        try:
            async for event in submission:
                yield event
        finally:
            submission.close()

    async def run_blocking(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread: for what would hold up every other client, as encoding a long prompt does."""
        return await asyncio.to_thread(function, *args, **kwargs)


def _teller(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event]) -> Callable[[Event], None]:
    """What the service calls on its own threads. It must not know the submission, which would then never be lost."""

    def tell(event: Event) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:
            if not loop.is_closed():  # with the loop its listeners are gone
                raise

    return tell
