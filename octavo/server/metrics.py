"""What a server counts, for Prometheus.

Covers: the metrics of /metrics, which bear vLLM's names under the prefix `octavo:`, and watching jobs pass by. Does
not cover: drawing them, sums of the engine itself (`Service.status`), which are only passed on; traces (`telemetry`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.engine.answer import Prefix
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, JobUsage, Piece
from octavo.engine.serving.job import Job
from octavo.server.limits import CALLER
from octavo.server.protocol.common import finish_reason

if TYPE_CHECKING:
    from octavo.engine.llm import LLM
    from octavo.engine.serving.library import Library
    from octavo.engine.serving.service import Service
    from octavo.engine.serving.status import Status
    from octavo.engine.texts import Text
    from octavo.server.telemetry import Telemetry

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
# name in /metrics -> (field of Status, help)
_GAUGES = {
    "num_requests_running": ("running", "jobs that are being answered"),
    "num_requests_waiting": ("waiting", "jobs that wait for room"),
    "num_requests_reading": ("reading", "jobs that read their prompt, and documents being read"),
    "num_requests_swapped": ("swapped", "jobs that gave their pages up for others and will go on"),
    "num_documents": ("documents", "documents in the library"),
    "cache_pages_used": ("pages_used", "pages in use"),
    "cache_pages": ("pages_total", "pages there are"),
}
_SUMS = {
    "prompt_tokens": ("prompt_tokens", "tokens of prompts, those of their documents included"),
    "generation_tokens": ("answer_tokens", "tokens of answers"),
    "prefix_cache_queries": ("prompt_tokens", "prompt tokens that were looked for in the cache"),
    "prefix_cache_hits": ("cached_tokens", "prompt tokens that were found in the cache"),
    "num_preemptions": ("swaps", "jobs whose pages went to disk for others"),
    "spec_decode_num_draft_tokens": ("drafted_tokens", "tokens that the MTP block proposed"),
    "spec_decode_num_accepted_tokens": ("accepted_tokens", "of those, tokens that answers went on with"),
}


# name in /metrics -> (field of Shelf, help)
_SHELF = {
    "shelf_hits": ("hits", "beginnings of prompts that were taken up from disk"),
    "shelf_damaged": ("damaged", "files that were damaged or gone, and dropped"),
    "shelf_evicted": ("evicted", "files that were removed for others"),
    "shelf_failed": ("failed", "files that could not be written"),
    "swaps_lost": ("lost", "jobs that were read again, since what they had on disk was damaged or gone"),
}
_INDEX = "seconds that lanes chose entries by the index, in chunks of prompts and in steps of answers"


class Metrics:
    """The metrics of one server, in a registry of their own. Safe between threads."""

    def __init__(self, model: str) -> None:
        self.model, self.registry = model, CollectorRegistry()

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            made = Histogram(f"octavo:{name}", text, ["model_name"], buckets=buckets, registry=self.registry)
            return made.labels(model_name=model)

        self.first_token = histogram("time_to_first_token_seconds", "from submission to the first token", _LONG)
        self.between = histogram("inter_token_latency_seconds", "between two tokens of an answer", _SHORT)
        self.whole = histogram("e2e_request_latency_seconds", "from submission to the end", _LONG)
        self.queued = histogram("request_queue_time_seconds", "from submission to the first step", _LONG)
        self.prefill = histogram("request_prefill_time_seconds", "from the first step to the first token", _LONG)
        self.decode = histogram("request_decode_time_seconds", "from the first token to the end", _LONG)
        self.per_token = histogram("request_time_per_output_token_seconds", "of an answer, its first left out", _SHORT)
        self.prompts = histogram("request_prompt_tokens", "tokens of a prompt, its document included", _TOKENS)
        self.answers = histogram("request_generation_tokens", "tokens of an answer", _TOKENS)
        self.asked = histogram("request_params_max_tokens", "most tokens that an answer might have had", _TOKENS)
        self._hits = Counter(
            "octavo:cached_tokens", "prompt tokens that were found, by where", ["model_name", "kind"],
            registry=self.registry,
        )  # fmt: skip
        self._prefixes = Counter(
            "octavo:request_prefix", "jobs that are over, by what their prompt began with", ["model_name", "kind"],
            registry=self.registry,
        )  # fmt: skip
        for kind in Prefix:  # so that each is there from the beginning
            self._hits.labels(model_name=model, kind=str(kind))
            self._prefixes.labels(model_name=model, kind=str(kind))
        self._finished = Counter(
            "octavo:request_success", "jobs that are over, by how", ["model_name", "finished_reason"],
            registry=self.registry,
        )  # fmt: skip
        self._refused = Counter(
            "octavo:requests_refused", "requests answered with 4xx or 5xx, by status", ["model_name", "status"],
            registry=self.registry,
        )  # fmt: skip

    def over(self, reason: str) -> None:
        """A job is over: stop, length, abort or error."""
        self._finished.labels(model_name=self.model, finished_reason=reason).inc()

    def took(self, usage: JobUsage) -> None:
        """What a job took that got to its first token, and where its prompt came from."""
        self._prefixes.labels(model_name=self.model, kind=str(usage.prefix)).inc()
        self._hits.labels(model_name=self.model, kind=str(usage.prefix)).inc(usage.cached_tokens)
        self.prompts.observe(usage.prompt_tokens)
        if not usage.first_token_seconds:
            return
        self.first_token.observe(usage.first_token_seconds)
        self.prefill.observe(usage.first_token_seconds - usage.queued_seconds)
        self.decode.observe(usage.seconds - usage.first_token_seconds)
        self.answers.observe(usage.answer_tokens)
        if usage.answer_tokens > 1:
            self.per_token.observe((usage.seconds - usage.first_token_seconds) / (usage.answer_tokens - 1))

    def refused(self, status: int) -> None:
        """A request was answered with an error."""
        self._refused.labels(model_name=self.model, status=str(status)).inc()

    def follow(self, service: Service) -> None:
        """Take the engine's own sums from `service` whenever the metrics are read."""
        self.registry.register(_Engine(self.model, service))

    def page(self) -> bytes:
        """The body of /metrics, text format 0.0.4."""
        return generate_latest(self.registry)


class _Engine(Collector):
    """The service's status as metrics, read at the moment of asking."""

    def __init__(self, model: str, service: Service) -> None:
        self._model, self._service = model, service

    def describe(self) -> Iterator[Metric]:
        return iter(())  # registering must not ask a service that has not started

    def collect(self) -> Iterator[Metric]:
        status, shelf, labels = self._service.status(), self._service.shelf, ["model_name"]
        used = status.pages_used / status.pages_total if status.pages_total else 0.0
        rows: dict[str, tuple[float, str]] = {"kv_cache_usage_perc": (used, "share of the pages in use, 0 to 1")}
        rows |= {name: (getattr(status, field), text) for name, (field, text) in _GAUGES.items()}
        rows |= {
            "shelf_bytes": (shelf.bytes, "bytes of the shelf's files, those of jobs that gave their pages up included"),
            "shelf_files": (shelf.files, "those files"),
        }
        for name, (value, text) in rows.items():
            gauge = GaugeMetricFamily(f"octavo:{name}", text, labels=labels)
            gauge.add_metric([self._model], value)
            yield gauge
        yield self._bytes(status)
        if status.index is not None:
            index = CounterMetricFamily("octavo:index_seconds", _INDEX, labels=[*labels, "kind"])
            for kind, seconds in status.index._asdict().items():
                index.add_metric([self._model, kind], seconds)
            yield index
        sources: tuple[tuple[object, dict[str, tuple[str, str]]], ...] = ((shelf, _SHELF), (status, _SUMS))
        for source, sums in sources:
            for name, (field, text) in sums.items():
                counter = CounterMetricFamily(f"octavo:{name}", text, labels=labels)
                counter.add_metric([self._model], getattr(source, field))
                yield counter

    def _bytes(self, status: Status) -> Metric:
        """Bytes of pages by what holds them; a page that several hold counts for the first named."""
        documents = min(self._service.library.pages(), status.pages_used)
        prefixes = min(status.prefix_pages, status.pages_used - documents)
        rest = status.pages_used - documents - prefixes
        labels = ["model_name", "kind"]
        gauge = GaugeMetricFamily("octavo:cache_bytes", "bytes of cache, by what holds it", labels=labels)
        for kind, pages in (("documents", documents), ("prefixes", prefixes), ("sequences", rest)):
            gauge.add_metric([self._model, kind], pages * status.page_bytes)
        return gauge


class Watched:
    """A service whose jobs are counted: it stands in the place of the service that it wraps."""

    def __init__(
        self, service: Service, metrics: Metrics, charge: Callable[[str | None, int], None],
        telemetry: Telemetry | None = None,
    ) -> None:  # fmt: skip
        """`charge(caller, tokens)` is told what a caller's job took when it is over; `telemetry` gets spans."""
        self._service, self._metrics, self._charge, self._telemetry = service, metrics, charge, telemetry

    @property
    def llm(self) -> LLM:
        """The model."""
        return self._service.llm

    @property
    def library(self) -> Library:
        """The documents."""
        return self._service.library

    def start(self) -> None:
        """See `Service.start`."""
        self._service.start()

    def submit(self, job: Job, tell: Callable[[Event], None]) -> None:
        """See `Service.submit`."""
        told = tell if self._telemetry is None else self._telemetry.followed(job, tell)
        self._service.submit(job, _Watch(self._metrics, self._charge, told))
        self._metrics.asked.observe(job.request.max_tokens)

    def read(self, id: str, name: str, texts: Sequence[Text], tell: Callable[[Event], None]) -> None:
        """See `Service.read`."""
        told = tell if self._telemetry is None else self._telemetry.followed_reading(tell)
        self._service.read(id, name, texts, _Watch(self._metrics, self._charge, told))

    def cancel(self, id: str, why: str = "cancelled") -> None:
        """See `Service.cancel`."""
        self._service.cancel(id, why)

    def status(self) -> Status:
        """See `Service.status`."""
        return self._service.status()

    def close(self, *, drain_seconds: float = 0.0) -> None:
        """See `Service.close`."""
        self._service.close(drain_seconds=drain_seconds)


class _Watch:
    """What is told about one job, counted on its way."""

    def __init__(
        self, metrics: Metrics, charge: Callable[[str | None, int], None], tell: Callable[[Event], None]
    ) -> None:
        self._metrics, self._charge, self._tell = metrics, charge, tell
        self._caller, self._last = CALLER.get(), None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Piece):
            self._piece(len(event.tokens))
        elif isinstance(event, Ended | Cancelled | Failed):
            self._over(event)
        self._tell(event)

    def _piece(self, tokens: int) -> None:
        if not tokens:
            return
        now, last = time.monotonic(), self._last
        if last is not None:
            for _ in range(tokens):
                self._metrics.between.observe((now - last) / tokens)
        self._last = now

    def _over(self, event: Ended | Cancelled | Failed) -> None:
        usage, metrics = event.usage, self._metrics
        if isinstance(event, Ended):
            metrics.over(finish_reason(event.finish))
            metrics.whole.observe(usage.seconds)
        else:
            metrics.over("abort" if isinstance(event, Cancelled) else "error")
        metrics.queued.observe(usage.queued_seconds)
        metrics.took(usage)
        self._charge(self._caller, usage.prompt_tokens - usage.cached_tokens + usage.answer_tokens)
