"""A service over a tiny random model, and servers in front of it.

Covers: services that must leave no page behind, an application on a free port of this machine, reading event streams.
Does not cover: models that say anything sensible: every answer is noise, unless a grammar holds it.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.types import ASGIApp

from octavo.engine.llm import LLM
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, Piece, Token
from octavo.engine.serving.job import Job
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.server.app import create_app
from octavo.server.bridge import Bridge
from octavo.server.context import Context
from octavo.server.settings import ServerSettings
from octavo.server.turn import Turns
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_llm import tiny_llm

SECONDS = 30


def tiny_service(folder: Path, *, settings: ServiceSettings | None = None, **fields: Any) -> Service:
    """A service that is not started yet, over a model written to `folder`; `fields` of its configuration."""
    llm = tiny_llm(folder, chunk=256, **({"max_position_embeddings": 8192} | fields))
    return Service(llm, settings or ServiceSettings(lanes=2, cache_bytes=2**27))


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """`service` while it runs; AssertionError where it leaks pages."""
    threads = torch.get_num_threads()
    service.start()
    try:
        yield service
        service.close(drain_seconds=SECONDS)
        assert service.llm.pool.allocator.used == 0, "pages leaked"
    finally:
        service.close()
        torch.set_num_threads(threads)


def context_over(service: Service, **fields: Any) -> Context:
    """What protocols get, with `tiny` for the served name."""
    bridge = Bridge(service)
    return Context(**({"bridge": bridge, "turns": Turns(bridge), "service": service, "model": "tiny"} | fields))


@contextmanager
def serving(folder: Path, settings: ServerSettings | None = None, **fields: Any) -> Iterator[tuple[str, Overheard]]:
    """The whole application over a tiny model, served as `tiny`: its address and its service, which must not leak."""
    threads = torch.get_num_threads()
    service = Overheard(tiny_service(folder, **fields))
    settings = settings or ServerSettings(served_name="tiny", drain_seconds=SECONDS)
    try:
        with listening(create_app(service, settings)) as address:  # type: ignore[arg-type]
            yield address, service
        assert service.llm.pool.allocator.used == 0, "pages leaked"
    finally:
        torch.set_num_threads(threads)


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """The address of a real server that runs `app`."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", lifespan="on", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        up = threading.Event()
        startup = server.startup

        async def told(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            up.set()

        server.startup = told  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            assert up.wait(SECONDS), "the server did not start"
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive(), "the server did not end"


def stream_events(text: str) -> list[tuple[str | None, Any]]:
    """The events of a stream: name and JSON value, or the bare text of `[DONE]`; comments as ("comment", text)."""
    found: list[tuple[str | None, Any]] = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, value = None, None
        for line in block.split("\n"):
            kind, _, rest = line.partition(": ")
            if kind == "":
                name, value = "comment", rest
            elif kind == "event":
                name = rest
            else:
                assert kind == "data", f"no line of an event: {line!r}"
                value = rest if rest == "[DONE]" else json.loads(rest)
        found.append((name, value))
    return found


class Overheard:
    """A service that also tells what its jobs were and how each of them ended."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.jobs: list[Job] = []
        self._ends: queue.Queue[Event] = queue.Queue()
        self.was_submitted = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
        """See `Service.submit`."""

        def heard(event: Event) -> None:
            tell(event)
            if isinstance(event, Ended | Cancelled | Failed):
                self._ends.put(event)

        self._service.submit(job, heard)
        self.jobs.append(job)
        self.was_submitted.set()

    def forget_ends(self) -> None:
        """Only jobs from now on count."""
        self.was_submitted.clear()
        while not self._ends.empty():
            self._ends.get_nowait()

    def next_end(self) -> Event:
        """The last event of the next job to be over."""
        return self._ends.get(timeout=SECONDS)


class Scripted:
    """Stands for a service where a test needs events that no real one gives at will."""

    def __init__(self, *events: Event, llm: LLM | None = None, error: Exception | None = None) -> None:
        """`error`: raised by `submit` in place of any event."""
        self.events, self.llm, self.error = events, llm, error
        self.jobs: list[Job] = []
        self.cancelled: list[str] = []
        self.was_cancelled = threading.Event()

    def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
        """Tell every event."""
        if self.error is not None:
            raise self.error
        self.jobs.append(job)
        for event in self.events:
            tell(event)

    def cancel(self, id: str, why: str = "cancelled") -> None:
        """Note it."""
        self.cancelled.append(id)
        self.was_cancelled.set()


def said(*texts: str, tokenizer: Tokenizer) -> list[Piece]:
    """Texts as the pieces of a job; marks of the chat format in them are control tokens."""
    return [
        Piece(id="a", text=text, tokens=tuple(Token(id=id, text=tokenizer.token_bytes(id)) for id in ids))
        for text in texts
        for ids in [tokenizer.encode_special(text)]
    ]
