"""Traces: spans of real requests in memory, and as a collector gets them over HTTP; what the environment says."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from octavo.config.errors import MissingError, UsageError
from octavo.engine.answer import Finish, Prefix
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, JobUsage
from octavo.engine.serving.job import Job
from octavo.server import telemetry
from octavo.server.app import create_app
from octavo.server.settings import ServerSettings
from octavo.server.telemetry import Telemetry, wants_traces
from tests.support.serving import SECONDS, listening, tiny_service

KEY, SECRET = "a-key-that-nobody-may-see", "the heron stands on the roof"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def in_memory() -> tuple[Telemetry, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Telemetry(provider, "tiny"), exporter


@contextmanager
def server(folder: Path, made: Telemetry | None) -> Iterator[httpx.Client]:
    settings = ServerSettings(served_name="tiny", api_keys=(KEY,), drain_seconds=SECONDS)
    app = create_app(tiny_service(folder), settings, telemetry=made)
    headers = {"authorization": f"Bearer {KEY}"}
    with listening(app) as address, httpx.Client(base_url=address, headers=headers, timeout=SECONDS) as client:
        yield client


def plain(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_request_is_a_trace_that_goes_on_from_its_client(tmp_path: Path) -> None:
    """The tree below the client's own span, with times that lie within each other, and nothing of what was said."""
    made, exporter = in_memory()
    body = {"model": "tiny", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 5, "temperature": 0}
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "asked-1"}
    with server(tmp_path, made) as client:
        told = client.post("/v1/chat/completions", json=body, headers=parent)
        assert told.status_code == 200, told.text
        client.get("/health")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    whole, job = spans["POST /v1/chat/completions"], spans["chat tiny"]
    assert spans.keys() == {whole.name, job.name, "queue", "prefill", "decode"}
    assert {format(span.context.trace_id, "032x") for span in spans.values()} == {TRACE}
    assert whole.parent is not None
    assert format(whole.parent.span_id, "016x") == PARENT
    assert job.parent is not None
    assert job.parent.span_id == whole.context.span_id
    assert (whole.kind, whole.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    assert plain(whole) == {
        "http.request.method": "POST", "url.scheme": "http", "http.route": "/v1/chat/completions",
        "http.response.status_code": 200, "octavo.request_id": "asked-1",
    }  # fmt: skip
    usage = told.json()["usage"]
    assert plain(job) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "octavo", "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny", "gen_ai.request.max_tokens": 5, "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0, "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 0, "octavo.cache.hit": "none",
        "gen_ai.response.finish_reasons": ("length",),
    }  # fmt: skip
    phases = [spans[name] for name in ("queue", "prefill", "decode")]
    assert all(phase.parent is not None and phase.parent.span_id == job.context.span_id for phase in phases)
    times = [time for phase in phases for time in (phase.start_time, phase.end_time)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (job.start_time, job.end_time)
    assert whole.start_time <= job.start_time <= job.end_time
    assert plain(spans["prefill"]) == {"octavo.read_tokens": usage["prompt_tokens"]}
    said = "".join(span.to_json() for span in spans.values())
    for hidden in (SECRET, "heron", KEY, told.json()["choices"][0]["message"]["content"]):
        assert hidden not in said


def test_names_of_other_requests_and_of_documents(tmp_path: Path) -> None:
    made, exporter = in_memory()
    with server(tmp_path, made) as client:
        document = {"name": "secret-name", "text": f"{SECRET}. " * 9}
        assert client.post("/v1/documents", json=document).status_code == 201
        assert client.post("/v1/documents/secret-name/ask", json={"question": "Where?", "max_tokens": 2}).is_success
        assert client.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 1}).is_success
        assert client.post("/v1/completions", json={"model": "tiny"}).status_code == 400
        assert client.get("/v1/models", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.delete("/v1/documents/secret-name").is_success
    spans = exporter.get_finished_spans()
    names = [span.name for span in spans]
    assert names.count("read_document tiny") == names.count("text_completion tiny") == 1
    assert "POST /v1/documents/{name}/ask" in names
    status = {span.name: plain(span)["http.response.status_code"] for span in spans if span.kind is SpanKind.SERVER}
    assert status["GET"] == 401  # nobody was let near a route
    assert "secret-name" not in "".join(span.to_json() for span in spans)
    assert all(span.status.status_code is StatusCode.UNSET for span in spans)


USAGE = JobUsage(prompt_tokens=9, cached_tokens=4, answer_tokens=3, prefix=Prefix.MEMORY, queued_seconds=0.5,
                 first_token_seconds=1.0, seconds=2.0)  # fmt: skip


@pytest.mark.parametrize(
    ("last", "attributes", "phases"),
    [
        (Ended(id="a", finish=Finish.STOP, usage=USAGE), {"gen_ai.response.finish_reasons": ("stop",)},
         {"queue": 0.5, "prefill": 0.5, "decode": 1.0}),
        (Cancelled(id="a", why="x", usage=JobUsage(seconds=2.0)), {"error.type": "cancelled"}, {"queue": 2.0}),
        (Failed(id="a", error=MissingError(SECRET), usage=JobUsage(seconds=2.0, queued_seconds=0.5)),
         {"error.type": "MissingError"}, {"queue": 0.5, "prefill": 1.5}),
    ],
)  # fmt: skip
def test_however_a_job_ends_its_span_says_so(
    last: Ended | Cancelled | Failed, attributes: dict[str, Any], phases: dict[str, float]
) -> None:
    made, exporter = in_memory()
    heard: list[Event] = []
    made.followed(Job(id="a", prompt=(1,)), heard.append)(last)
    assert heard == [last]
    *below, job = exporter.get_finished_spans()
    assert {name: plain(job).get(name) for name in attributes} == attributes
    assert {span.name: round((span.end_time - span.start_time) / 1e9, 6) for span in below} == phases
    assert (job.status.status_code is StatusCode.ERROR) is isinstance(last, Failed)
    assert SECRET not in job.to_json()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "true"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_the_environment_says_where_to(environ: dict[str, str]) -> None:
    assert not wants_traces(environ)
    assert Telemetry.of(environ, "tiny") is None


def test_what_the_environment_may_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="OTEL_TRACES_EXPORTER is 'zipkin'; it must be otlp or none"):
        wants_traces({"OTEL_TRACES_EXPORTER": "zipkin"})
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; it must be http/protobuf"):
        wants_traces(ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    monkeypatch.setattr(telemetry, "_NEEDED", ("no_such_library.of_traces",))
    with pytest.raises(UsageError, match=r"pip install octavo\[telemetry\]"):
        wants_traces(ENDPOINT)


class Collector(ThreadingHTTPServer):
    """Takes what an exporter sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.taken: queue.Queue[tuple[str, str, bytes]] = queue.Queue()


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.put((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextmanager
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join(SECONDS)
        made.server_close()


def test_a_collector_gets_them_as_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application as it starts itself: nothing but variables, and a collector that speaks OTLP over HTTP."""
    with collector() as there:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{there.server_address[1]}",
            "OTEL_SERVICE_NAME": "library",
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with server(tmp_path, None) as client:
            body = {"model": "tiny", "prompt": SECRET, "max_tokens": 2, "temperature": 0}
            assert client.post("/v1/completions", json=body).is_success
        path, kind, sent = there.taken.get(timeout=SECONDS)
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    request = ExportTraceServiceRequest.FromString(sent)
    [resource] = request.resource_spans
    assert {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"] == "library"
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert names == {"POST /v1/completions", "text_completion tiny", "queue", "prefill", "decode"}
    assert SECRET.encode() not in sent
    assert KEY.encode() not in sent


def test_a_collector_that_does_not_answer_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is waited for a moment, and no request waits for it at all."""
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 0.1)
    with socket.socket() as silent:  # it takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        with server(tmp_path, None) as client:
            assert client.get("/v1/models").json()["data"]
        [closing] = [thread for thread in threading.enumerate() if thread.name == "octavo-telemetry"]
        closing.join(SECONDS)
        assert not closing.is_alive()
