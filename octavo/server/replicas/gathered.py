"""The metrics of all replicas on one page.

Covers: taking the pages of replicas, a label that tells whose each sample is, what the front counts itself. Does not
cover: what is counted (`octavo.server.metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from octavo.server.metrics import Metrics
from octavo.server.replicas.relay import Relay

Pages = Callable[[], Mapping[str, bytes]]
"""The page of every replica that answers, by its id. Blocking."""


class GatheredMetrics(Metrics):
    """The front's metrics: its own, and those of the replicas under the label `replica`. A replica that is gone takes
    its samples with it, as a process does that ends."""

    def __init__(self, model: str, pages: Pages, relay: Relay) -> None:
        super().__init__(model)
        # Not in the registry of a server's own: what the front never counts would stand there a second time.
        self._gathered = CollectorRegistry()
        self._gathered.register(self._refused)
        self._gathered.register(_Replicas(pages, relay))

    def page(self) -> bytes:
        """The body of /metrics. Blocking."""
        return generate_latest(self._gathered)


class _Replicas(Collector):
    def __init__(self, pages: Pages, relay: Relay) -> None:
        self._pages, self._relay = pages, relay

    def describe(self) -> Iterator[Metric]:
        return iter(())  # registering must not ask replicas that have not started

    def collect(self) -> Iterator[Metric]:
        pages = self._pages()
        yield GaugeMetricFamily("octavo:replicas", "replicas that answer", len(pages))
        yield CounterMetricFamily("octavo:replicas_lost", "requests whose replica was lost", self._relay.lost)
        loads = self._relay.directory.loads
        waiting = GaugeMetricFamily("octavo:replica_requests", "requests under way at a replica", labels=["replica"])
        for replica in sorted({*pages, *loads}):
            waiting.add_metric([replica], loads.get(replica, 0))
        yield waiting
        yield from merged(pages)


def merged(pages: Mapping[str, bytes]) -> list[Metric]:
    """One metric for each name, with the samples of all pages, each under the label `replica`. What the front counts
    for all of them, requests that were refused, is left out, and so are times of creation."""
    found: dict[str, Metric] = {}
    for replica, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page.decode()):
            if family.name.startswith("octavo:requests_refused") or family.name.endswith("_created"):
                continue
            kept = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                kept.add_sample(sample.name, {**sample.labels, "replica": replica}, sample.value)
    return list(found.values())
