"""The front: what clients reach.

Covers: its layers (the server's own: log, traces, origins, keys, rates, drain, bodies), health, metrics, the page, and
behind them the relay; listening. Does not cover: passing requests on (`relay`), starting replicas (`cluster`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Mount

from octavo.server.app import layers
from octavo.server.lifecycle import Lifecycle
from octavo.server.limits import RateLimits
from octavo.server.page import page_routes
from octavo.server.protocol import health
from octavo.server.replicas.gathered import GatheredMetrics
from octavo.server.replicas.relay import Relay
from octavo.server.serve import server_of
from octavo.server.settings import ServerSettings
from octavo.server.telemetry import Telemetry


def create_front(
    relay: Relay, metrics: GatheredMetrics, rates: RateLimits, settings: ServerSettings, *,
    telemetry: Telemetry | None = None,
) -> FastAPI:  # fmt: skip
    """The application that clients reach; `app.state.lifecycle` is what a server drains by.

    `telemetry`: where its spans go, by default where the environment says (UsageError as `wants_traces`); it is closed
    too. What a replica makes of a request is below the front's span of it.
    """
    lifecycle, pages = Lifecycle(), page_routes()
    traces = telemetry or Telemetry.of(os.environ, metrics.model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lifecycle.ready()
        try:
            yield
        finally:
            if traces is not None:
                await asyncio.to_thread(traces.close)
            lifecycle.end()

    app = FastAPI(
        openapi_url=None,  # as everything that is not named here, a replica's
        docs_url=None,
        redoc_url=None,
        middleware=layers(settings, rates, lifecycle, metrics, frozenset(route.path for route in pages), traces),
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.lifecycle = lifecycle
    app.include_router(health.router(lifecycle, metrics if settings.metrics else None))
    app.router.routes.extend([*pages, Mount("/", app=relay)])
    return app


def serve_front(
    app: FastAPI, relay: Relay, settings: ServerSettings, listening: socket.socket, *,
    on_listening: Callable[[], None],
) -> None:  # fmt: skip
    """Serve until a signal says otherwise; see `octavo.server.serve` for the end."""
    server_of(app, relay, settings, on_listening=on_listening).run(sockets=[listening])
