"""Listening: uvicorn around the application, and an end that cuts no answer off.

Covers: one process, its socket and signals. Does not cover: TLS, several processes or hosts, which a proxy in front or
replicas are for; loading a model (`octavo.cli.serve`).

The first SIGTERM or SIGINT: new requests get 503, those under way get `drain_seconds`, then they are cancelled, and
the process ends with 0. A client that takes nothing of what is sent to it is then waited for `STUCK_SECONDS`, any other
`CLOSING_SECONDS`. A second signal ends it at once.
A service that failed for good ends the process the same way, with an error.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import uvicorn
from fastapi import FastAPI

from octavo.config.errors import UsageError, WorkerError
from octavo.server.app import create_app
from octavo.server.lifecycle import Lifecycle
from octavo.server.logs import log_settings
from octavo.server.settings import ServerSettings

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

_log = logging.getLogger(__name__)
CLOSING_SECONDS = 5
STUCK_SECONDS = 1.0
_LOOK_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 30
MAX_HEADER_BYTES = 65536


class Closing(Protocol):
    """What runs behind an application: it may fail for good, and can give up what is left of its work."""

    @property
    def failure(self) -> str | None:
        """Why it can do nothing any more, None else."""
        ...

    def close(self) -> None:
        """Give it up; whoever waits for it is told."""
        ...


class Server(uvicorn.Server):
    """uvicorn's server with a drain before its own end."""

    def __init__(
        self, config: uvicorn.Config, service: Closing, lifecycle: Lifecycle, *, drain_seconds: float,
        on_listening: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config)
        self._service, self._lifecycle, self._drain_seconds = service, lifecycle, drain_seconds
        self._on_listening, self._is_ending = on_listening, False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and self._on_listening is not None:
            self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once. Signals are not raised again at the end, so that the
        process ends with 0."""
        if self._loop is None or self._is_ending:
            self.should_exit = self.force_exit = True
            return
        self._is_ending = True
        self._loop.call_soon_threadsafe(self.drain)

    async def on_tick(self, counter: int) -> bool:
        """Begin to end where nothing can be answered any more."""
        if self._task is None and self._service.failure is not None:
            _log.error("the server ends: %s", self._service.failure)
            self.drain()
        return await super().on_tick(counter)

    def drain(self) -> None:
        """Begin to end; on the event loop's thread."""
        if self._task is None:
            self._lifecycle.drain()
            self._task = asyncio.get_running_loop().create_task(self._drained())

    async def _drained(self) -> None:
        if not await self._lifecycle.wait_idle(self._drain_seconds):
            await asyncio.to_thread(self._service.close)  # cancels what is left, so that its clients hear of it
        await self._sent()
        self.should_exit = True

    async def _sent(self) -> None:
        """Wait until everything is on its way to its client, and cut off those who take nothing."""
        now = asyncio.get_running_loop().time
        end, moved = now() + CLOSING_SECONDS, dict[asyncio.Transport, tuple[int, float]]()
        while (unsent := self._unsent()) or self._lifecycle.under_way:
            for transport, size in unsent.items():
                before, since = moved.get(transport, (size + 1, 0.0))
                moved[transport] = size, now() if size < before else since
                if now() > min(end, moved[transport][1] + STUCK_SECONDS):
                    transport.abort()
            if now() > end + _LOOK_SECONDS:  # what was aborted had its time to end
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _unsent(self) -> dict[asyncio.Transport, int]:
        """Bytes that wait for a client to take them, of each connection that has any."""
        found = [getattr(connection, "transport", None) for connection in self.server_state.connections]
        sizes = {one: one.get_write_buffer_size() for one in found if one is not None}
        return {transport: size for transport, size in sizes.items() if size}


def make_server(
    service: Service, settings: ServerSettings, *, on_listening: Callable[[], None] | None = None
) -> Server:
    """A server over `service`; it listens once it is run."""
    return server_of(create_app(service, settings), service, settings, on_listening=on_listening)


def server_of(
    app: FastAPI, service: Closing, settings: ServerSettings, *, on_listening: Callable[[], None] | None = None
) -> Server:
    """A server of `app`, whose `state.lifecycle` it drains by; what is left then ends with `service`."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=1,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return Server(
        config, service, app.state.lifecycle, drain_seconds=settings.drain_seconds, on_listening=on_listening
    )


def listen(settings: ServerSettings) -> socket.socket:
    """The socket, bound before a model is loaded, so that a port in use is told at once. UsageError where it fails."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
    except OSError as error:
        made.close()
        raise UsageError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}") from None
    return made


def serve(
    service: Service,
    settings: ServerSettings,
    listening: socket.socket,
    *,
    log_level: str = "info",
    on_listening: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal says otherwise. Raises WorkerError where the service failed for good."""
    logging.config.dictConfig(log_settings(log_level))
    server = make_server(service, settings, on_listening=on_listening)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    server.run(sockets=[listening])
    if service.failure is not None:
        raise WorkerError(service.failure)
