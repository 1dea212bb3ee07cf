"""The server put together: one service, its protocols, and the layers that every request passes.

Covers: routers, the order of layers, errors of any kind in the client's own shape, start and end. Does not cover: what
each layer does (`logs`, `auth`, `limits`, `lifecycle`, `metrics`, `telemetry`), listening and signals (`serve`).

From outside in: id and log; traces, where they are wanted; requests of foreign pages; CORS, where pages are let in;
keys; rates; draining; kind and size of bodies; routes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from octavo.config.errors import OctavoError
from octavo.server.auth import OPEN_PATHS, AuthMiddleware
from octavo.server.bridge import Bridge
from octavo.server.context import Context
from octavo.server.errors import FieldError
from octavo.server.lifecycle import DrainMiddleware, Lifecycle
from octavo.server.limits import BodyMiddleware, RateLimits, RateMiddleware
from octavo.server.logs import LogMiddleware
from octavo.server.media import MediaMiddleware
from octavo.server.metrics import Metrics, Watched
from octavo.server.origin import OriginMiddleware
from octavo.server.page import page_routes
from octavo.server.protocol import anthropic, chat, completions, documents, fold, health, models, responses, tokens
from octavo.server.refusal import answer
from octavo.server.settings import ServerSettings
from octavo.server.telemetry import Telemetry, TraceMiddleware
from octavo.server.turn import Turns
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

PROTOCOLS = (chat, completions, responses, anthropic, models, tokens, documents, fold)


def create_app(
    service: Service, settings: ServerSettings | None = None, *, telemetry: Telemetry | None = None,
    charge: Callable[[str | None, int], None] | None = None,
) -> FastAPI:  # fmt: skip
    """The application over `service`, which it starts and closes. Needs no event loop; `app.state.lifecycle` is what a
    server drains by, `app.state.metrics` what it counted. `telemetry`: where spans go, by default where the environment
    says (UsageError as `wants_traces`); it is closed too. `charge(caller, tokens)` is told what jobs took, by
    default the server's own rates."""
    settings = settings or ServerSettings()
    name = settings.served_name or service.llm.name
    metrics, lifecycle = Metrics(name), Lifecycle()
    telemetry = telemetry or Telemetry.of(os.environ, name)
    rates = RateLimits(settings.requests_per_minute, settings.tokens_per_minute)
    metrics.follow(service)
    watched = cast("Service", Watched(service, metrics, charge or rates.charge, telemetry))
    bridge = Bridge(watched)
    context = Context(
        bridge=bridge, turns=Turns(bridge), service=watched, model=name, aliases=settings.aliases, settings=settings
    )
    pages = page_routes()
    app = FastAPI(
        title="octavo",
        version=__version__,
        openapi_url="/openapi.json",
        docs_url="/docs" if settings.docs_page else None,
        redoc_url=None,
        middleware=layers(settings, rates, lifecycle, metrics, frozenset(route.path for route in pages), telemetry),
        lifespan=_lifespan(service, settings, lifecycle, telemetry),
        redirect_slashes=False,
    )
    app.state.lifecycle, app.state.metrics = lifecycle, metrics
    for protocol in PROTOCOLS:
        app.include_router(protocol.router(context))
    app.include_router(health.router(lifecycle, metrics if settings.metrics else None))
    app.router.routes.extend(pages)
    for kind in (OctavoError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(RecursionError, _too_deep)
    return app


def layers(
    settings: ServerSettings, rates: RateLimits, lifecycle: Lifecycle, metrics: Metrics, page: frozenset[str],
    telemetry: Telemetry | None = None,
) -> list[Middleware]:  # fmt: skip
    """The layers, outermost first."""
    aside = OPEN_PATHS | {"/metrics"}
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],  # clients in browsers tell of themselves in headers of their own
        expose_headers=["x-request-id", "request-id", "retry-after"],
    )
    traces = None if telemetry is None else Middleware(TraceMiddleware, telemetry=telemetry, open_paths=aside | page)
    return [
        Middleware(LogMiddleware, on_error=metrics.refused),
        *([traces] if traces else []),
        Middleware(
            OriginMiddleware, host=settings.host, has_keys=bool(settings.api_keys), origins=settings.cors_origins
        ),
        *([cors] if settings.cors_origins else []),
        Middleware(AuthMiddleware, keys=settings.api_keys, open_paths=page),
        Middleware(RateMiddleware, limits=rates, open_paths=aside | page),
        Middleware(DrainMiddleware, lifecycle=lifecycle, open_paths=aside),
        Middleware(MediaMiddleware),
        Middleware(
            BodyMiddleware,
            max_bytes=settings.max_body_bytes,
            max_upload_bytes=settings.max_upload_bytes,
            seconds=settings.body_seconds,
        ),
    ]


def _lifespan(
    service: Service, settings: ServerSettings, lifecycle: Lifecycle, telemetry: Telemetry | None
) -> Any:  # fmt: skip
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        lifecycle.ready()
        try:
            yield
        finally:
            lifecycle.drain()
            await asyncio.to_thread(service.close, drain_seconds=settings.drain_seconds)
            if telemetry is not None:
                await asyncio.to_thread(telemetry.close)
            lifecycle.end()

    return lifespan


async def _answer(request: Request, error: Exception) -> JSONResponse:
    return answer(error, request.scope)


async def _too_deep(request: Request, error: Exception) -> JSONResponse:
    return answer(FieldError("the body is nested too deeply", code="invalid_json"), request.scope)
