"""Documents: read, listed, asked, shown, deleted; names that are paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.listening import Running, running, tiny_service
from tests.support.tiny_llm import STORY

PATH = "/v1/documents"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(tiny_service(folder, folder / "kept")) as found:
        reply = found.client.post(PATH, json={"name": "story", "text": STORY, "file": "story.txt"})
        assert reply.status_code == 201, reply.text
        yield found


def test_a_document_is_read_listed_and_on_disk(server: Running, folder: Path) -> None:
    info = server.client.get(f"{PATH}/story").json()
    assert (info["state"], info["files"], info["object"]) == ("ready", ["story.txt"], "document")
    assert info["tokens"] == info["done"] > 10
    assert info["name"] in [one["name"] for one in server.client.get(PATH).json()["data"]]
    assert (folder / "kept" / "story.octavo").is_file()


def test_an_answer_is_that_of_the_same_document_asked_directly(server: Running, folder: Path) -> None:
    found = server.client.post(f"{PATH}/story/ask", json={"question": "Which word?", "max_tokens": 8}).json()
    llm = server.service.llm
    with llm.open(folder / "kept" / "story.octavo") as document:
        expected = document.ask("Which word?", max_tokens=8)
    assert found["answer"] == expected.text
    assert found["usage"]["answer_tokens"] == expected.usage.answer_tokens
    assert [(one["start"], one["end"]) for one in found["sources"]] == [(s.start, s.end) for s in expected.sources]
    assert all(STORY[one["start"] : one["end"]] == one["text"] for one in found["sources"])


def test_a_streamed_answer_is_the_same(server: Running) -> None:
    asked = {"question": "Which word?", "max_tokens": 8}
    whole = server.client.post(f"{PATH}/story/ask", json=asked).json()
    text = server.client.post(f"{PATH}/story/ask", json=asked | {"stream": True}).text
    events = [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block.startswith("data: ")]
    assert "".join(one.get("text", "") for one in events).strip() == whole["answer"] == events[-1]["answer"]
    assert events[-1]["sources"] == whole["sources"]


def test_characters_of_a_text(server: Running) -> None:
    found = server.client.get(f"{PATH}/story/text", params={"start": 4, "end": 30}).json()
    assert (found["text"], found["start"], found["end"]) == (STORY[4:30], 4, 30)
    beyond = server.client.get(f"{PATH}/story/text", params={"start": len(STORY) - 3, "end": len(STORY) + 50}).json()
    assert (beyond["text"], beyond["end"]) == (STORY[-3:], len(STORY))


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"start": -1}, 400),
        ({"start": "x"}, 400),
        ({"start": 9, "end": 3}, 400),
        ({"start": 0, "end": 65_537}, 400),
        ({"file": 1}, 400),
        ({"start": 10**30, "end": 10**30 + 1}, 200),
    ],
)
def test_bad_places(server: Running, params: dict[str, Any], status: int) -> None:
    assert server.client.get(f"{PATH}/story/text", params=params).status_code == status


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", ".hidden", "a%2fb", "a%5cb", "-x", "a%00b", "x" * 101, "a%20b", "%ff"],
)
def test_names_cannot_leave_the_folder(server: Running, folder: Path, name: str) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/ask"), ("GET", "/text")):
        body = {"question": "?"} if method == "POST" else None
        found = server.client.request(method, f"{PATH}/{name}{path}", json=body)
        assert found.status_code in (400, 404, 405), (method, path, found.text)
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["../x", "..", "/etc/passwd", "a/b", "a\\b", ".x", "", "a\0b", "a\nb", "x" * 101])
def test_documents_cannot_be_called_so(server: Running, folder: Path, name: str) -> None:
    found = server.client.post(PATH, json={"name": name, "text": "words"})
    assert (found.status_code, "document name" in found.json()["error"]["message"]) == (400, True)
    assert {path.name for path in (folder / "kept").iterdir()} >= {"story.octavo"}
    assert not (folder / "x.octavo").exists()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"question": ""}, "question"),
        ({"question": "a", "max_tokens": 0}, "max_tokens"),
        ({"question": "a", "temperature": -1}, "temperature"),
        ({"question": "a", "max_token": 3}, "max_token"),
        ({"question": "a", "max_tokens": "3"}, "max_tokens"),
        ({"question": "a", "max_tokens": 3.5}, "max_tokens"),
        ({"question": " \n"}, None),
        ({"question": "a " * 6000}, None),
        ({"question": "a", "seed": -1}, "seed"),
        ({"question": "a", "stop": [""]}, "stop[0]"),
    ],
)
def test_bad_questions(server: Running, body: dict[str, Any], param: str | None) -> None:
    found = server.client.post(f"{PATH}/story/ask", json=body)
    assert found.status_code == 400, found.text
    assert found.json()["error"]["param"] == param


def test_a_deleted_document_is_gone(server: Running, folder: Path) -> None:
    assert server.client.post(PATH, json={"name": "brief", "text": "A few words."}).status_code == 201
    assert server.client.delete(f"{PATH}/brief").json() == {"name": "brief", "object": "document", "deleted": True}
    assert not (folder / "kept" / "brief.octavo").exists()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/ask"), ("GET", "/text")):
        body = {"question": "?"} if method == "POST" else None
        found = server.client.request(method, f"{PATH}/brief{path}", json=body)
        assert (found.status_code, found.json()["error"]["type"]) == (404, "not_found_error")
