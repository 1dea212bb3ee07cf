"""One page of metrics for all replicas, which a parser accepts."""

from __future__ import annotations

import io
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from octavo.server.metrics import Metrics
from octavo.server.replicas.directory import Directory
from octavo.server.replicas.gathered import GatheredMetrics
from octavo.server.replicas.relay import Relay
from tests.server.replicas.test_relay import scripted


def test_samples_of_all_stand_side_by_side(tmp_path: Path) -> None:
    one, other = Metrics("tiny"), Metrics("tiny")
    one.over("stop")
    one.refused(429)
    other.over("stop")
    other.over("stop")
    other.first_token.observe(0.3)
    relay = Relay(scripted("a"), Directory(slack=1), incoming=tmp_path, charge=lambda *_: None, log_to=io.StringIO())
    relay.directory.enter("b")
    relay.lost = 3
    front = GatheredMetrics("tiny", lambda: {"a": one.page(), "b": other.page()}, relay)
    front.refused(503)

    page = front.page().decode()
    families = list(text_string_to_metric_families(page))
    assert len({family.name for family in families}) == len(families)
    found = {(sample.name, sample.labels.get("replica"), sample.labels.get("status")): sample.value
             for family in families for sample in family.samples}  # fmt: skip
    assert found["octavo:replicas", None, None] == 2
    assert found["octavo:replicas_lost_total", None, None] == 3
    assert found["octavo:replica_requests", "a", None] == 0
    assert found["octavo:replica_requests", "b", None] == 1
    assert found["octavo:request_success_total", "a", None] == 1
    assert found["octavo:request_success_total", "b", None] == 2
    assert found["octavo:time_to_first_token_seconds_count", "a", None] == 0
    assert found["octavo:time_to_first_token_seconds_count", "b", None] == 1
    assert found["octavo:requests_refused_total", None, "503"] == 1
    assert "429" not in page  # the front counts what clients are told


def test_without_replicas_there_is_a_page_all_the_same(tmp_path: Path) -> None:
    relay = Relay(scripted("a"), Directory(slack=1), incoming=tmp_path, charge=lambda *_: None, log_to=io.StringIO())
    assert b"octavo:replicas 0.0\n" in GatheredMetrics("tiny", dict, relay).page()
