"""Whether the server is there, ready, and which version it is.

Covers: /health, /ready, /version, /metrics. Does not cover: what is counted (`octavo.server.metrics`).
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from octavo.server.lifecycle import Lifecycle, Phase
from octavo.server.metrics import Metrics
from octavo.version import __version__


def router(lifecycle: Lifecycle, metrics: Metrics | None) -> APIRouter:
    """The routes; without `metrics` there is no /metrics."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health")
    async def health() -> JSONResponse:
        """200 while the service runs, the end of a drain included; 503 before and after."""
        is_there = lifecycle.phase in (Phase.READY, Phase.DRAINING)
        return JSONResponse({"status": "ok" if is_there else str(lifecycle.phase)}, 200 if is_there else 503)

    @routes.get("/ready")
    async def ready() -> JSONResponse:
        """200 while new requests are taken; 503 while the server loads or drains."""
        is_ready = lifecycle.phase is Phase.READY
        return JSONResponse({"status": str(lifecycle.phase)}, 200 if is_ready else 503)

    @routes.get("/version")
    async def version() -> dict[str, str]:
        """The version of octavo."""
        return {"version": __version__}

    if metrics is not None:

        @routes.get("/metrics")
        def counted() -> Response:
            """Prometheus' text format."""
            return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return routes
