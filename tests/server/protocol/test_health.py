"""/health, /ready, /version, /metrics in every phase."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.testclient import TestClient

from octavo.server.lifecycle import Lifecycle
from octavo.server.metrics import Metrics
from octavo.server.protocol.health import router
from octavo.version import __version__


def client(life: Lifecycle, metrics: Metrics | None = None) -> TestClient:
    app = FastAPI()
    app.include_router(router(life, metrics))
    return TestClient(app)


def test_health_and_readiness_by_phase() -> None:
    life = Lifecycle()
    asking, found = client(life), []
    for change in (lambda: None, life.ready, life.drain, life.end):
        change()
        found.append((asking.get("/health").status_code, asking.get("/ready").status_code))
    assert found == [(503, 503), (200, 200), (200, 503), (503, 503)]
    assert asking.get("/ready").json() == {"status": "over"}


def test_version_and_metrics() -> None:
    assert client(Lifecycle()).get("/version").json() == {"version": __version__}
    assert client(Lifecycle()).get("/metrics").status_code == 404
    found = client(Lifecycle(), Metrics("tiny")).get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE octavo:request_success_total counter" in found.text
