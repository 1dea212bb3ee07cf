"""The fold and the map over HTTP: the engine's own numbers, and errors in the protocol's shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from octavo.engine.fold import fold_at, token_at
from octavo.engine.llm import LLM
from octavo.engine.serving.service import Service
from octavo.engine.texts import Text
from octavo.server.app import create_app
from tests.support.tiny_llm import STORY, tiny_llm

TEXT = STORY * 5


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), chunk=256)


@pytest.fixture(scope="module")
def client(llm: LLM) -> Iterator[TestClient]:
    with TestClient(create_app(Service(llm)), base_url="http://localhost") as client:
        read = client.post("/v1/documents", json={"name": "story", "file": "story.txt", "text": TEXT})
        assert read.status_code == 201
        yield client


def test_the_fold_is_the_engines(client: TestClient, llm: LLM) -> None:
    found = client.get("/v1/documents/story/fold", params={"at": 300}).json()
    with llm.read([Text(name="story.txt", text=TEXT)]) as document:
        token = token_at(document.texts, 300)
        entries = fold_at(document, token)
    assert (found["object"], found["at"], found["file"], found["token"]) == ("document.fold", 300, 0, token)
    assert len(found["entries"]) == len(entries) > 4
    for given, made in zip(found["entries"], entries, strict=True):
        plain = made.to_dict()
        assert {k: v for k, v in given.items() if k != "tokens"} == {k: v for k, v in plain.items() if k != "tokens"}
        for one, other in zip(given["tokens"], plain["tokens"], strict=True):
            assert one["share"] == pytest.approx(other["share"], abs=1e-4)
            assert one["text"] == other["text"]
            assert one["file"] is None or TEXT[one["start_char"] : one["end_char"]] == one["text"]


def test_one_layer(client: TestClient) -> None:
    found = client.get("/v1/documents/story/fold", params={"at": 300, "layer": 2}).json()
    assert {entry["layer"] for entry in found["entries"]} == {2}
    assert {entry["ratio"] for entry in found["entries"]} == {128}


def test_the_map_has_the_frame(client: TestClient, llm: LLM) -> None:
    found = client.get("/v1/documents/story/map", params={"bins": 10}).json()
    assert found["window"] == llm.config.sliding_window
    (file,) = found["files"]
    assert (file["name"], file["first_token"], file["chars"]) == ("story.txt", 1, len(TEXT))
    assert found["tokens"] == file["tokens"] + 1
    assert found["starts"][0] == ["story.txt", 0]
    assert len(found["starts"]) == 10


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/documents/none/fold?at=0", 404, "there is no document 'none'"),
        ("/v1/documents/none/map", 404, "there is no document 'none'"),
        (
            f"/v1/documents/story/fold?at={len(TEXT)}",
            400,
            f"character {len(TEXT)}; what was read of story.txt has 0 to",
        ),
        ("/v1/documents/story/fold?at=0&file=1", 400, "the document has no text 1; it has story.txt"),
        ("/v1/documents/story/fold?at=0&layer=0", 400, "layer 0 has no entries; layers 1, 2, 3, 4 have"),
        ("/v1/documents/story/fold?at=-1", 400, "at"),
        ("/v1/documents/story/fold", 400, "at"),
        ("/v1/documents/story/map?bins=100000", 400, "bins is 100000; it must be between 1 and 2048"),
    ],
)
def test_errors_name_what_is_wrong(client: TestClient, path: str, status: int, says: str) -> None:
    found = client.get(path)
    assert found.status_code == status
    assert says in found.json()["error"]["message"]


def test_looking_holds_nothing(client: TestClient) -> None:
    client.get("/v1/documents/story/fold?at=5")
    client.post("/v1/documents", json={"name": "gone", "text": TEXT})
    client.get("/v1/documents/gone/fold?at=5")
    assert client.delete("/v1/documents/gone").status_code == 200
    assert client.get("/v1/documents/gone/fold?at=5").status_code == 404
