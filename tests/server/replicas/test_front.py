"""The layers of the front: what never reaches a replica."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.trace import SpanKind

from octavo.server.limits import RateLimits
from octavo.server.replicas.directory import Directory
from octavo.server.replicas.front import create_front, serve_front
from octavo.server.replicas.gathered import GatheredMetrics
from octavo.server.replicas.messages import Head, Over
from octavo.server.replicas.relay import Relay
from octavo.server.serve import listen
from octavo.server.settings import ServerSettings
from octavo.server.telemetry import Telemetry
from tests.server.replicas.test_relay import Replicas, scripted
from tests.server.test_telemetry import PARENT, TRACE, in_memory
from tests.support.serving import SECONDS, listening

KEY = {"authorization": "Bearer hush"}
SAID = (Head(status=200, headers=((b"content-type", b"text/plain"),)), b"said", Over(charges=(("key 1", 90),)))


@contextmanager
def front(
    folder: Path, telemetry: Telemetry | None = None, **settings: Any
) -> Iterator[tuple[httpx.Client, Replicas]]:  # fmt: skip
    """A front over two replicas that always say the same."""
    given = ServerSettings(api_keys=("hush",), **settings)
    rates = RateLimits(given.requests_per_minute, given.tokens_per_minute)
    replicas = Replicas(a=scripted("a", *SAID), b=scripted("b", *SAID))
    relay = Relay(replicas.ask, Directory(slack=1), incoming=folder, charge=rates.charge, log_to=io.StringIO())
    app = create_front(relay, GatheredMetrics("tiny", dict, relay), rates, given, telemetry=telemetry)
    with listening(app) as url, httpx.Client(base_url=url, timeout=SECONDS) as client:
        yield client, replicas


def test_keys_origins_and_sizes_are_looked_at_before(tmp_path: Path) -> None:
    with front(tmp_path, max_body_bytes=10) as (client, replicas):
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers=KEY | {"origin": "http://elsewhere"}).status_code == 403
        assert client.post("/v1/x", headers=KEY, content=b"x" * 11).status_code == 413
        assert not replicas.asked
        found = client.post("/v1/x", headers=KEY, content=b"x" * 10)
        assert (found.status_code, found.text, found.headers["content-type"]) == (200, "said", "text/plain")
        assert replicas.asked[0][1].caller == "key 1"


def test_rates_are_counted_for_all_replicas_at_once(tmp_path: Path) -> None:
    with front(tmp_path, requests_per_minute=1) as (client, replicas):
        assert client.get("/v1/models", headers=KEY).headers["x-ratelimit-remaining-requests"] == "0"
        assert client.get("/v1/models", headers=KEY).status_code == 429
        assert len(replicas.asked) == 1
    with front(tmp_path, tokens_per_minute=100) as (client, replicas):
        left = [client.get("/v1/x", headers=KEY) for _ in range(4)]
        assert [one.status_code for one in left] == [200, 200, 429, 429]
        assert int(left[1].headers["x-ratelimit-remaining-tokens"]) < 20


def test_health_metrics_and_page_are_the_fronts_own(tmp_path: Path) -> None:
    with front(tmp_path) as (client, replicas):
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.get("/metrics").status_code == 401
        assert "octavo:replicas 0.0" in client.get("/metrics", headers=KEY).text
        assert client.get("/").headers["content-security-policy"].startswith("default-src 'none'")
        assert not replicas.asked
        assert client.get("/openapi.json", headers=KEY).text == "said"


def test_a_request_is_a_span_and_its_replica_goes_on_from_it(tmp_path: Path) -> None:
    made, exporter = in_memory()
    with front(tmp_path, made) as (client, replicas):
        replicas.lose["a"] = 1  # behind what it says of itself
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "x-request-id": "asked-1"}
        assert client.get("/v1/documents/secret-name", headers=KEY | parent).text == "said"
        assert client.get("/health").is_success
    [span] = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("GET", SpanKind.SERVER)
    assert span.parent is not None
    assert (format(span.context.trace_id, "032x"), format(span.parent.span_id, "016x")) == (TRACE, PARENT)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET", "url.scheme": "http", "http.response.status_code": 200,
        "octavo.request_id": "asked-1", "octavo.attempts": 2, "octavo.replica": "b",
    }  # fmt: skip
    assert [replica for replica, _ in replicas.asked] == ["a", "b"]
    for _, asked in replicas.asked:
        traced = [pair for pair in asked.headers if pair[0] in (b"traceparent", b"tracestate")]
        own = f"00-{TRACE}-{span.context.span_id:016x}-01".encode()
        assert sorted(traced) == [(b"traceparent", own), (b"tracestate", b"vendor=1")]


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    given = ServerSettings(port=0)
    relay = Relay(
        scripted("a", *SAID), Directory(slack=1), incoming=tmp_path, charge=lambda *_: None, log_to=io.StringIO()
    )
    app = create_front(relay, GatheredMetrics("tiny", dict, relay), RateLimits(None, None), given)
    is_up = threading.Event()
    with listen(given) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        thread = threading.Thread(
            target=serve_front, args=(app, relay, given, bound), kwargs={"on_listening": is_up.set}, daemon=True
        )
        thread.start()
        assert is_up.wait(SECONDS)
        assert httpx.get(f"{url}/v1/x", timeout=SECONDS).text == "said"
        app.state.lifecycle.drain()
        assert httpx.get(f"{url}/v1/x", timeout=SECONDS).status_code == 503
        assert httpx.get(f"{url}/ready", timeout=SECONDS).status_code == 503
