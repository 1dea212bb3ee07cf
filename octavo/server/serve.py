"""Listening: uvicorn around the application, and an end that cuts no answer off.

Covers: one process, its socket and signals. Does not cover: TLS, several processes or hosts, which a proxy in front or
replicas are for; loading a model (`octavo.cli.serve`).

The first SIGTERM or SIGINT: new requests get 503, those under way get `drain_seconds`, then they are cancelled, and
the process ends with 0. A second one ends it at once.
"""

from __future__ import annotations

import asyncio
import logging.config
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from octavo.config.errors import UsageError
from octavo.server.app import create_app
from octavo.server.lifecycle import Lifecycle
from octavo.server.logs import log_settings
from octavo.server.settings import ServerSettings

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

CLOSING_SECONDS = 5
KEEP_ALIVE_SECONDS = 30
MAX_HEADER_BYTES = 65536


class Server(uvicorn.Server):
    """uvicorn's server with a drain before its own end."""

    def __init__(
        self, config: uvicorn.Config, service: Service, lifecycle: Lifecycle, *, drain_seconds: float,
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

    def drain(self) -> None:
        """Begin to end; on the event loop's thread."""
        if self._task is None:
            self._lifecycle.drain()
            self._task = asyncio.get_running_loop().create_task(self._drained())

    async def _drained(self) -> None:
        if not await self._lifecycle.wait_idle(self._drain_seconds):
            await asyncio.to_thread(self._service.close)  # cancels what is left, so that its clients hear of it
            await self._lifecycle.wait_idle(CLOSING_SECONDS)
        self.should_exit = True


def make_server(
    service: Service, settings: ServerSettings, *, on_listening: Callable[[], None] | None = None
) -> Server:
    """A server over `service`; it listens once it is run."""
    app = create_app(service, settings)
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
    """Serve until a signal says otherwise."""
    logging.config.dictConfig(log_settings(log_level))
    server = make_server(service, settings, on_listening=on_listening)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    server.run(sockets=[listening])
