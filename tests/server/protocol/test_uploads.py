"""Both forms of an upload, progress, giving up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.engine.plan import plan
from tests.support.listening import SECONDS, Running, running, tiny_service
from tests.support.tiny_llm import STORY

PATH = "/v1/documents"
LONG = STORY * 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    service = tiny_service(folder, folder / "kept", max_position_embeddings=65_536)
    with running(service, max_upload_bytes=2**20) as found:
        yield found


def test_a_form_of_several_files(server: Running) -> None:
    files = [("file", ("one.txt", b"First words.")), ("file", ("../../two.txt", "Zweite Wörter.".encode()))]
    found = server.client.post(PATH, files=files, data={"name": "both"})
    assert found.status_code == 201, found.text
    assert found.json()["files"] == ["one.txt", "two.txt"]
    assert server.client.get(f"{PATH}/both/text", params={"file": 1}).json()["text"] == "Zweite Wörter."


def test_without_a_name_it_is_the_files(server: Running) -> None:
    assert server.client.post(PATH, files={"file": ("notes.txt", b"Words.")}).json()["name"] == "notes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.txt: the file is empty"),
        (b"ab\xffc", "a.txt: not UTF-8 text: byte 2 is 0xff"),
        (b"ab\0c", "a.txt: byte 2 is NUL"),
    ],
)
def test_what_is_no_text_is_refused_with_its_byte(server: Running, content: bytes, message: str) -> None:
    found = server.client.post(PATH, files={"file": ("a.txt", content)})
    assert found.status_code == 400
    assert message in found.json()["error"]["message"]


def test_neither_form(server: Running) -> None:
    assert "content-type is 'text/plain'" in server.client.post(
        PATH, content=b"words", headers={"content-type": "text/plain"}
    ).json()["error"]["message"]
    assert server.client.post(PATH, data={"name": "x"}, files={"other": b"y"}).json()["error"]["param"] == "file"
    broken = server.client.post(PATH, content=b"nothing", headers={"content-type": "multipart/form-data; boundary=b"})
    assert broken.status_code == 400
    large = server.client.post(PATH, files={"file": ("a.txt", b"x" * (2**20 + 1))})
    assert large.status_code == 413


def test_progress_of_a_reading(server: Running) -> None:
    with server.client.stream("POST", PATH, params={"stream": True}, json={"name": "long", "text": LONG}) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: ")]
    done = [one["done"] for one in events]
    assert done == sorted(done)
    assert len(set(done)) > 5
    last = events[-1]
    assert (last["state"], last["name"], last["done"], last["seconds_left"]) == ("ready", "long", last["total"], 0.0)
    per_token = plan(server.service.llm.config, 1).comparisons[-1].bytes_per_token
    assert last["uncompressed_bytes"] == int(per_token * last["total"])
    assert last["cache_bytes"] > 0
    assert last["tokens_per_second"] > 0


def test_a_name_that_is_taken(server: Running) -> None:
    body = {"name": "taken", "text": "Words."}
    assert server.client.post(PATH, json=body).status_code == 201
    again = server.client.post(PATH, json=body)
    assert (again.status_code, "is there already" in again.text) == (400, True)


def test_a_client_that_leaves_ends_the_reading(server: Running) -> None:
    before = server.service.status().cancelled
    body = {"name": "left", "text": LONG * 2}
    with server.client.stream("POST", PATH, params={"stream": True}, json=body) as answer:
        next(answer.iter_lines())
    until = time.monotonic() + SECONDS
    while server.service.status().cancelled == before:
        assert time.monotonic() < until
        time.sleep(0.005)
    server.service.check_integrity()


def test_deleting_what_is_being_read(server: Running) -> None:
    begun = server.client.post(PATH, params={"wait": False}, json={"name": "begun", "text": LONG * 2})
    assert (begun.status_code, begun.json()["state"]) == (202, "reading")
    assert server.client.delete(f"{PATH}/begun").status_code == 200
    assert server.client.get(f"{PATH}/begun").status_code == 404
