"""/v1/models: names, aliases, the context."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.listening import Running, running, tiny_service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    service = tiny_service(tmp_path_factory.mktemp("models"))
    with running(service, served_name="deep/tiny", aliases=("gpt",)) as found:
        yield found


def test_every_name_is_listed(server: Running) -> None:
    found = server.client.get("/v1/models").json()
    assert [one["id"] for one in found["data"]] == ["deep/tiny", "gpt"]
    assert {one["max_model_len"] for one in found["data"]} == {4096}
    assert {one["root"] for one in found["data"]} == {"deep/tiny"}
    assert found["object"] == "list"


def test_one_name_with_slashes_and_an_unknown_one(server: Running) -> None:
    assert server.client.get("/v1/models/deep/tiny").json()["owned_by"] == "octavo"
    missing = server.client.get("/v1/models/octavo-tiny")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_the_openai_package_reads_it(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        assert [one.id for one in client.models.list()] == ["deep/tiny", "gpt"]
        assert client.models.retrieve("gpt").id == "gpt"


def test_a_request_may_name_an_alias(server: Running, tmp_path: Path) -> None:
    body = {"model": "gpt", "prompt": "a", "max_tokens": 1}
    assert server.client.post("/v1/completions", json=body).status_code == 200
