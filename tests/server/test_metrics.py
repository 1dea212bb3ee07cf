"""Numbers after requests, as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.config.errors import DocumentError, OctavoError
from octavo.engine.answer import Finish, Prefix
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, JobUsage, Piece, Token
from octavo.engine.serving.job import Job
from octavo.kernels.index_topk import scan
from octavo.server.limits import CALLER
from octavo.server.metrics import Metrics, Watched
from tests.support.listening import running, tiny_service


def values(page: str) -> dict[str, float]:
    """`name{label values}` -> value of every sample but the buckets'."""
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                rest = ",".join(value for name, value in sorted(sample.labels.items()) if name != "model_name")
                assert sample.labels["model_name"] == "octavo-tiny"
                found[f"{sample.name}{{{rest}}}"] = sample.value
    return found


def test_numbers_after_requests(tmp_path: Path) -> None:
    with running(tiny_service(tmp_path)) as server:
        before = values(server.client.get("/metrics").text)
        assert before["octavo:generation_tokens_total{}"] == 0
        body = {"model": "octavo-tiny", "prompt": "word " * 400, "max_tokens": 7, "temperature": 0.0}
        used = [server.client.post("/v1/completions", json=body).json()["usage"] for _ in range(2)]
        assert server.client.post("/v1/completions", json=body | {"max_tokens": 0}).status_code == 400
        after = values(server.client.get("/metrics").text)
    prompt = sum(one["prompt_tokens"] for one in used)
    cached = sum(one["prompt_tokens_details"]["cached_tokens"] for one in used)
    assert cached > 0
    assert after["octavo:prompt_tokens_total{}"] == after["octavo:prefix_cache_queries_total{}"] == prompt
    assert after["octavo:prefix_cache_hits_total{}"] == cached
    assert after["octavo:generation_tokens_total{}"] == sum(one["completion_tokens"] for one in used)
    assert sum(after.get(f"octavo:request_success_total{{{how}}}", 0) for how in ("length", "stop")) == 2
    times = ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time",
             "request_decode_time", "request_time_per_output_token")  # fmt: skip
    for name in (f"{time}_seconds" for time in times):
        assert after[f"octavo:{name}_count{{}}"] == 2
        assert after[f"octavo:{name}_sum{{}}"] > 0
    assert after["octavo:num_requests_running{}"] == after["octavo:num_requests_waiting{}"] == 0
    assert 0 < after["octavo:kv_cache_usage_perc{}"] < 1
    assert after["octavo:cache_bytes{prefixes}"] > 0
    assert after["octavo:cache_bytes{documents}"] == after["octavo:cache_bytes{sequences}"] == 0
    assert after["octavo:num_preemptions_total{}"] == 0
    assert after["octavo:requests_refused_total{400}"] == 1
    parts = [after[f"octavo:request_{part}_time_seconds_sum{{}}"] for part in ("queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(after["octavo:e2e_request_latency_seconds_sum{}"])
    assert after["octavo:request_prompt_tokens_sum{}"] == prompt
    assert after["octavo:request_generation_tokens_sum{}"] == sum(one["completion_tokens"] for one in used)
    assert after["octavo:request_params_max_tokens_sum{}"] == 14
    assert after["octavo:cached_tokens_total{memory}"] == cached
    assert [after[f"octavo:request_prefix_total{{{kind}}}"] for kind in Prefix] == [1, 1, 0, 0]
    assert before["octavo:request_prefix_total{recomputed}"] == 0  # there before anything was counted
    assert after["octavo:swaps_lost_total{}"] == after["octavo:shelf_damaged_total{}"] == 0
    assert after["octavo:shelf_files{}"] == after["octavo:shelf_bytes{}"] == 0


def test_drafts_and_the_index_are_counted(tmp_path: Path) -> None:
    """More tokens than the index chooses entries of, so that chunks and steps choose."""
    with running(tiny_service(tmp_path, num_nextn_predict_layers=1)) as server:
        before = values(server.client.get("/metrics").text)
        body = {"model": "octavo-tiny", "prompt": [40] * 700, "max_tokens": 24, "temperature": 0.0}
        used = server.client.post("/v1/completions", json=body).json()["usage"]
        after = values(server.client.get("/metrics").text)
    drafted, accepted = (after[f"octavo:spec_decode_num_{kind}_tokens_total{{}}"] for kind in ("draft", "accepted"))
    assert before["octavo:spec_decode_num_draft_tokens_total{}"] == 0
    assert drafted > 0
    assert accepted <= min(drafted, used["completion_tokens"])
    for kind in ("chunks", "steps")[: 2 if scan.level() else 1]:  # compiled steps alone are timed
        name = f"octavo:index_seconds_total{{{kind}}}"
        assert before[name] < after[name] < before[name] + 30


def test_a_lost_swap_file_is_counted(tmp_path: Path) -> None:
    service = tiny_service(tmp_path)
    with running(service) as server:
        state = service.llm.new_state()
        service.llm.runner.read(np.arange(20, 60), state)
        service.shelf.save_job("a", state)
        assert values(server.client.get("/metrics").text)["octavo:shelf_files{}"] == 1
        service.shelf._job_path("a").unlink()
        with pytest.raises(DocumentError, match="cannot be taken up again"):
            service.shelf.restore_job("a", service.llm.new_state())
        state.close()
        after = values(server.client.get("/metrics").text)
    assert after["octavo:swaps_lost_total{}"] == after["octavo:shelf_damaged_total{}"] == 1
    assert after["octavo:shelf_files{}"] == 0


class Telling:
    """Stands for a service where a test decides how jobs end."""

    def __init__(self, *events: Event) -> None:
        self.events = events

    def submit(self, job: Job, tell: object) -> None:
        for event in self.events:
            tell(event)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (Ended(id="a", finish=Finish.END), "stop"),
        (Ended(id="a", finish=Finish.STOP), "stop"),
        (Ended(id="a", finish=Finish.CONTEXT), "length"),
        (Cancelled(id="a", why="gone"), "abort"),
        (Failed(id="a", error=OctavoError("no")), "error"),
    ],
)
def test_how_a_job_ended(last: Event, reason: str) -> None:
    metrics = Metrics("octavo-tiny")
    told: list[Event] = []
    watched = Watched(Telling(last), metrics, lambda caller, tokens: None)  # type: ignore[arg-type]
    watched.submit(Job(id="a", prompt=(1,)), told.append)
    assert told == [last]
    found = values(metrics.page().decode())
    assert found[f"octavo:request_success_total{{{reason}}}"] == 1


def test_tokens_between_and_the_callers_share() -> None:
    pieces = [Piece(id="a", text="x", tokens=(Token(id=1, text=b"x"),) * count) for count in (1, 0, 2)]
    usage = JobUsage(prompt_tokens=50, cached_tokens=40, answer_tokens=3)
    metrics, charged = Metrics("octavo-tiny"), list[tuple[str | None, int]]()
    service = Telling(*pieces, Ended(id="a", finish=Finish.END, usage=usage))
    mark = CALLER.set("key 2")
    try:
        watched = Watched(service, metrics, lambda *what: charged.append(what))  # type: ignore[arg-type]
        watched.submit(Job(id="a", prompt=(1,)), lambda event: None)
    finally:
        CALLER.reset(mark)
    assert charged == [("key 2", 13)]
    assert values(metrics.page().decode())["octavo:inter_token_latency_seconds_count{}"] == 2
