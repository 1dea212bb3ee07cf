"""Types of bodies on a real server: what is read, what is refused with 415 and in whose shape."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.serving import SECONDS, serving

POSTS = {
    "/v1/chat/completions": b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"max_tokens":1}',
    "/v1/completions": b'{"model":"tiny","prompt":"x","max_tokens":1}',
    "/v1/responses": b'{"model":"tiny","input":"x","max_output_tokens":1}',
    "/v1/messages": b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"max_tokens":1}',
    "/v1/messages/count_tokens": b'{"model":"tiny","messages":[{"role":"user","content":"x"}]}',
    "/tokenize": b'{"prompt":"x"}',
    "/detokenize": b'{"tokens":[40]}',
    "/v1/documents/sea/ask": b'{"question":"x","max_tokens":1}',
}
BAD = [
    "text/plain",
    "application/x-www-form-urlencoded",  # what curl -d sends unless told otherwise
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "application/json; charset=latin-1",
    'application/json; charset="utf-16"',
]
GOOD = [
    "application/json",
    "Application/JSON; charset=UTF-8",
    "application/vnd.api+json",
    "application/json; charset=us-ascii",
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("model")) as (address, service):
        with httpx.Client(base_url=address, timeout=SECONDS) as made:
            told = made.post("/v1/documents", json={"name": "sea", "text": "The sea had brought a crate of oranges."})
            assert told.status_code == 201, told.text
            yield made
        service.library.remove("sea")


def raw(client: httpx.Client, path: str, body: bytes, kind: str | None) -> tuple[int, bytes]:
    """A POST with exactly these headers; httpx would add some."""
    link = http.client.HTTPConnection(urlsplit(str(client.base_url)).netloc, timeout=SECONDS)
    try:
        headers = {"content-length": str(len(body))} | ({} if kind is None else {"content-type": kind})
        link.request("POST", path, body, headers)
        told = link.getresponse()
        return told.status, told.read()
    finally:
        link.close()


@pytest.mark.parametrize("path", POSTS)
def test_every_endpoint_refuses_bodies_of_other_types_and_reads_json(client: httpx.Client, path: str) -> None:
    for kind in BAD:
        told = client.post(path, content=POSTS[path], headers={"content-type": kind})
        assert told.status_code == 415, (kind, told.text)
        error = told.json()["error"]
        assert "content-type is" in error["message"]
        assert "it must be application/json" in error["message"]
        is_anthropic = path.startswith("/v1/messages")
        assert told.json().get("type") == ("error" if is_anthropic else None)
        assert error.get("code", "unsupported_media_type") == "unsupported_media_type"
    for kind in GOOD:
        told = client.post(path, content=POSTS[path], headers={"content-type": kind})
        assert told.status_code == 200, (kind, told.text)


@pytest.mark.parametrize("path", POSTS)
def test_a_body_without_a_type_is_json(client: httpx.Client, path: str) -> None:
    for kind in (None, ""):
        status, told = raw(client, path, POSTS[path], kind)
        assert status == 200, told


def test_forms_go_where_documents_are_taken_in_and_nowhere_else(client: httpx.Client) -> None:
    told = client.post("/v1/documents", files={"file": ("sky.txt", b"The sky was low over the sea.")})
    assert told.status_code == 201, told.text
    assert client.delete("/v1/documents/sky").status_code == 200
    told = client.post("/v1/documents", content=b"x", headers={"content-type": "text/plain"})
    assert told.status_code == 415
    assert "application/json or multipart/form-data" in told.json()["error"]["message"]
    for kind in (None, "application/vnd.api+json"):
        status, answer = raw(client, "/v1/documents", b'{"name":"sky","text":"The sky was low."}', kind)
        assert status == 201, answer
        assert client.delete("/v1/documents/sky").status_code == 200


def test_a_request_without_a_body_needs_no_type(client: httpx.Client) -> None:
    """As the cancelling of a response is sent; here there is none of that name."""
    for headers in ({}, {"content-type": "text/plain"}):
        assert client.post("/v1/responses/resp_x/cancel", headers=headers).status_code == 404
    assert client.post("/v1/completions", headers={"content-type": "text/plain"}).status_code == 400
