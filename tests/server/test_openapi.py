"""The description at /openapi.json, and what a fuzzer makes of it: no request of its kind is answered with a 5xx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.listening import SECONDS, Running, running, tiny_service

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_service(tmp_path_factory.mktemp("model")), request_seconds=2.0) as found:
        yield found


def test_no_request_is_answered_with_a_server_error(server: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = Counter[str]()
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def ask(case: Any) -> None:
            response = case.call(timeout=SECONDS)
            asked[case.operation.path] += 1
            assert response.status_code < 500, (case.method, case.path, case.body, response.text)

        ask()
    assert len(asked) > 12
    assert asked["/v1/chat/completions"] >= EXAMPLES


def test_every_route_is_described(server: Running) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    wanted = {
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
        "/v1/models", "/tokenize", "/detokenize", "/v1/documents", "/v1/documents/{name}/ask", "/health", "/metrics",
    }  # fmt: skip
    assert wanted <= set(paths)
