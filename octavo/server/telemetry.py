"""Traces of requests for OpenTelemetry: what each of them waited for, and what it took.

Covers: a span for a request and one for each of its jobs, with the time in the queue, for the prompt and for the answer
below it; traces that go on from a client's; the standard OTEL_* environment variables. Does not cover: metrics
(`metrics`), the log (`logs`). Needs the extra `telemetry`; nothing of it is imported where no trace is wanted.

Names are those of OpenTelemetry's conventions for HTTP servers and for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). A span holds numbers and names of the server's own: never a
prompt, an answer, a document's name, a key, or the text of an error, which may repeat what a client sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.config.errors import UsageError
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, JobUsage
from octavo.engine.serving.job import Job
from octavo.server.protocol.common import finish_reason

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

PROVIDER = "octavo"
FLUSH_SECONDS = 3.0
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_OPERATIONS = {"/v1/completions": "text_completion"}
_OPERATION: ContextVar[str] = ContextVar("octavo-operation", default="chat")


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces: it names where they go, and does not say otherwise.

    UsageError where the extra is missing or they are to go by something else than OTLP over HTTP.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter == "none" or not (exporter or any(environ.get(name) for name in _ENDPOINTS)):
        return False
    if exporter not in ("", "otlp"):
        raise UsageError(f"OTEL_TRACES_EXPORTER is {exporter!r}; it must be otlp or none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol not in ("", "http/protobuf"):
            raise UsageError(f"{name} is {protocol!r}; it must be http/protobuf")
    if not all(_is_there(name) for name in _NEEDED):
        how = "pip install octavo[telemetry], or set OTEL_SDK_DISABLED=true"
        raise UsageError(f"OTEL_* variables ask for traces: {how}")
    return True


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class Telemetry:
    """Where the spans of one server go. Safe between threads."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        """`model`: the served name. `close` shuts the provider down."""
        from octavo.version import __version__

        self.model, self._provider = model, provider
        self._tracer = provider.get_tracer("octavo.server", __version__)

    @classmethod
    def of(cls, environ: Mapping[str, str], model: str) -> Telemetry | None:
        """What the environment asks for, None for nothing. UsageError as `wants_traces`. The libraries read the rest of
        the variables (headers, timeouts, sampling, the service's name) from the process's own environment."""
        if not wants_traces(environ):
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = any(environ.get(name) for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"))
        resource = Resource.create({} if named else {SERVICE_NAME: PROVIDER})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider, model)

    def close(self) -> None:
        """Send what is left; a collector that does not answer is not waited for longer than `FLUSH_SECONDS`."""
        closing = threading.Thread(target=self._provider.shutdown, name="octavo-telemetry", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)

    def request(self, scope: Scope) -> Span:
        """A span that goes on from the client's trace, where its headers name one."""
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {"http.request.method": scope["method"], "url.scheme": scope["scheme"]}
        return self._tracer.start_span(
            scope["method"], context=propagate.extract(carrier), kind=SpanKind.SERVER, attributes=attributes
        )

    def followed(self, job: Job, tell: Callable[[Event], None]) -> Callable[[Event], None]:
        """`tell`, with a span from now to the job's last event."""
        asked = job.request
        known = {"max_tokens": asked.max_tokens, "temperature": asked.temperature, "top_p": asked.top_p,
                 "top_k": asked.top_k, "seed": asked.seed}  # fmt: skip
        attributes = {f"gen_ai.request.{name}": value for name, value in known.items() if value is not None}
        return self._follow(_OPERATION.get(), attributes, tell)

    def followed_reading(self, tell: Callable[[Event], None]) -> Callable[[Event], None]:
        """The same for a document that is read."""
        return self._follow("read_document", {}, tell)

    def _follow(
        self, operation: str, attributes: Mapping[str, Any], tell: Callable[[Event], None]
    ) -> Callable[[Event], None]:
        begun = time.time_ns()
        named = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": self.model,
            "gen_ai.response.model": self.model,
        }
        span = self._tracer.start_span(
            f"{operation} {self.model}", start_time=begun, attributes={**named, **attributes}
        )

        def told(event: Event) -> None:
            if isinstance(event, Ended | Cancelled | Failed):
                self._over(span, event, begun)
            tell(event)

        return told

    def _over(self, span: Span, event: Ended | Cancelled | Failed, begun: int) -> None:
        from opentelemetry.trace import Status, StatusCode

        usage = event.usage
        span.set_attributes({
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.answer_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "octavo.cache.hit": str(usage.prefix),
        })  # fmt: skip
        if isinstance(event, Ended):
            span.set_attribute("gen_ai.response.finish_reasons", [finish_reason(event.finish)])
        elif isinstance(event, Cancelled):
            span.set_attribute("error.type", "cancelled")
        else:
            span.set_attribute("error.type", type(event.error).__name__)
            span.set_status(Status(StatusCode.ERROR))
        self._phases(span, usage, begun)
        span.end(begun + round(usage.seconds * 1e9))

    def _phases(self, span: Span, usage: JobUsage, begun: int) -> None:
        """The time in the queue, for the prompt and for the answer, as spans below the job's; those that it reached."""
        from opentelemetry.trace import set_span_in_context

        started, first, end = usage.queued_seconds, usage.first_token_seconds, usage.seconds
        read = {"octavo.read_tokens": usage.prompt_tokens - usage.cached_tokens}
        phases: list[tuple[str, float, float, Mapping[str, int]]] = [("queue", 0.0, started or end, {})]
        phases += [("prefill", started, first or end, read)] if started else []
        phases += [("decode", first, end, {"gen_ai.usage.output_tokens": usage.answer_tokens})] if first else []
        context = set_span_in_context(span)
        for name, start, stop, attributes in phases:
            start_ns, stop_ns = (begun + round(seconds * 1e9) for seconds in (start, stop))
            self._tracer.start_span(name, context, start_time=start_ns, attributes=attributes).end(stop_ns)


class TraceMiddleware:
    """A span for every request but those of open paths; jobs that a request starts are below it, and so are the spans
    of whoever its headers are passed on to. What stands in `scope["state"]["traced"]` at the end, names and values, are
    attributes of it."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry, open_paths: frozenset[str]) -> None:
        self.app, self._telemetry, self._open_paths = app, telemetry, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            return await self.app(scope, receive, send)
        from opentelemetry.trace import Status, StatusCode, use_span

        span = self._telemetry.request(scope)
        scope["headers"] = _below(scope["headers"], span)
        mark = _OPERATION.set(_OPERATIONS.get(scope["path"], "chat"))

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            await send(message)

        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None)  # the path itself may hold a document's name
            if route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            state = scope.get("state", {})
            span.set_attribute("octavo.request_id", state.get("request_id", ""))
            span.set_attributes(state.get("traced", {}))
            span.end()
            _OPERATION.reset(mark)


def _below(headers: Iterable[tuple[bytes, bytes]], span: Span) -> list[tuple[bytes, bytes]]:
    """The headers of a request, as of one that was made within `span`."""
    from opentelemetry import propagate
    from opentelemetry.trace import set_span_in_context

    carrier: dict[str, str] = {}
    propagate.inject(carrier, set_span_in_context(span))
    named = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in carrier.items()]
    return [pair for pair in headers if pair[0] not in dict(named)] + named
