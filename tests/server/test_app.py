"""The server as a whole: bad input of every kind, layers in their order, clients that leave, the end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.listening import SECONDS, Running, running, tiny_service

KEY = "the-key"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    service = tiny_service(tmp_path_factory.mktemp("app"))
    with running(service, api_keys=(KEY,), max_body_bytes=2**20, served_name="tiny", aliases=("gpt",)) as found:
        yield found


def body(**fields: Any) -> dict[str, Any]:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4, "temperature": 0}
    return asked | fields


def wait_for(condition: Any) -> None:
    """Return once `condition()` holds."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.005)


def test_an_answer(server: Running) -> None:
    found = server.client.post(CHAT, json=body(), headers={"x-request-id": "mine"})
    assert found.status_code == 200, found.text
    assert found.headers["x-request-id"] == "mine"
    assert found.json()["usage"]["completion_tokens"] <= 4
    assert "server" not in found.headers


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/documents", "/v1/models", "/metrics", "/openapi.json"])
def test_nothing_opens_without_the_key(server: Running, path: str) -> None:
    with httpx.Client(base_url=server.url, timeout=SECONDS) as stranger:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            assert stranger.request(method, path).status_code == 401
        assert stranger.get("/health").status_code == 200


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/completions", "/v1/responses", "/tokenize", "/v1/documents"])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model": "\xff\xfe"}',
        b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 3000 + b"]" * 3000,
        b"[]",
        b"null",
        b'"text"',
        b'{"model": "tiny", "max_tokens": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "words", "utf8", "deep", "deep object", "deep whole", "list", "null", "text", "digits"],
)
def test_a_bad_body_is_400_in_its_protocols_shape(server: Running, path: str, raw: bytes) -> None:
    found = server.client.post(path, content=raw, headers={"content-type": "application/json"})
    assert found.status_code == 400, found.text[:300]
    error = found.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in found.text
    assert ("request_id" in found.json()) == (path == MESSAGES)


def test_a_deep_value_inside_a_good_body_is_no_failure(server: Running) -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    for path, name in ((CHAT, "metadata"), (MESSAGES, "metadata"), (CHAT, "response_format"), (CHAT, "tools")):
        found = server.client.post(path, content=json.dumps(body(**{name: deep})))
        assert found.status_code in (200, 400), (path, name, found.text[:300])


def test_lone_surrogates_are_named_and_not_fatal(server: Running) -> None:
    raw = json.dumps(body(messages=[{"role": "user", "content": "a\ud800b"}]))
    for path in (CHAT, MESSAGES):
        assert server.client.post(path, content=raw).status_code == 400
    kind = {"content-type": "application/json"}
    found = server.client.post("/tokenize", content=json.dumps({"prompt": "a\ud800b"}), headers=kind)
    assert found.status_code == 400
    assert found.json()["error"]["param"] == "prompt"
    assert server.client.post(CHAT, content=json.dumps(body(model="\udfff"))).status_code in (400, 404)


def test_unknown_paths_and_methods_keep_the_shape(server: Running) -> None:
    missing = server.client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    wrong = server.client.get(CHAT)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert server.client.get(MESSAGES).json()["type"] == "error"
    for path in ("/docs", "/redoc", "/collective_rpc", "/update_weights", "/v1/documents/..%2f..%2fetc%2fpasswd"):
        assert server.client.get(path).status_code in (400, 404)


def test_a_hundred_megabytes_are_cut_off_early(server: Running) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1600):
            sent += 65_536
            yield b"x" * 65_536

    with suppress(httpx.TransportError):  # the connection may be closed while the client still writes
        assert server.client.post(CHAT, content=parts()).status_code == 413
    assert sent < 50 * 2**20
    assert server.client.get("/health").status_code == 200
    found = server.client.post(CHAT, content=b"x" * (2**20 + 1))
    assert (found.status_code, found.json()["error"]["code"]) == (413, "body_too_large")


def test_a_client_that_vanishes_in_the_middle_is_given_up(server: Running) -> None:
    service = server.service
    before = service.status()
    payload = json.dumps(body(max_tokens=3000, stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(payload)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
        raw.sendall(head.encode() + payload)
        assert raw.recv(64).startswith(b"HTTP/1.1 200")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset instead of an orderly end
    wait_for(lambda: service.status().cancelled + service.status().ended > before.cancelled + before.ended)
    wait_for(lambda: service.status().running == 0)
    service.check_integrity()


def test_half_a_body_and_gone_leaves_nothing(server: Running) -> None:
    life = server.server._lifecycle
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 99\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
        raw.sendall(head.encode() + b"{")
        wait_for(lambda: life.under_way == 1)
    wait_for(lambda: life.under_way == 0)
    assert server.client.get("/ready").status_code == 200


def test_garbage_on_the_socket_is_400(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nothing of HTTP\r\n\r\n")
        assert raw.recv(64).startswith(b"HTTP/1.1 400")
    assert server.client.get("/ready").status_code == 200


def test_the_description_names_every_endpoint(server: Running) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    assert {CHAT, MESSAGES, "/v1/completions", "/v1/responses", "/v1/models", "/tokenize", "/detokenize"} <= set(paths)
    assert {"/v1/documents", "/v1/documents/{name}/ask", "/health", "/ready", "/version", "/metrics"} <= set(paths)


def test_rates_by_key(tmp_path: Path) -> None:
    with running(tiny_service(tmp_path), api_keys=("a", "b"), tokens_per_minute=20, metrics=False) as server:
        first = server.client.post(CHAT, json=body(model="octavo-tiny", max_tokens=40))
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-tokens"] == "20"
        second = server.client.post(CHAT, json=body(model="octavo-tiny"))
        assert (second.status_code, second.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(second.headers["retry-after"]) >= 1
        other = server.client.post(CHAT, json=body(model="octavo-tiny"), headers={"authorization": "Bearer b"})
        assert other.status_code == 200
        assert server.client.get("/metrics", headers={"authorization": "Bearer b"}).status_code in (404, 429)


def test_other_origins_only_where_named(tmp_path: Path, server: Running) -> None:
    asked = {"origin": "https://one.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in server.client.get("/health", headers=asked).headers
    with running(tiny_service(tmp_path), cors_origins=("https://one.example",)) as open_one:
        found = open_one.client.options(CHAT, headers=asked)
        assert found.headers["access-control-allow-origin"] == "https://one.example"
        wanted = "authorization,content-type,x-stainless-lang,anthropic-beta,anthropic-dangerous-direct-browser-access"
        clients = open_one.client.options(CHAT, headers=asked | {"access-control-request-headers": wanted})
        assert clients.status_code == 200, "the official clients send these from a browser"
        allowed = clients.headers["access-control-allow-headers"].replace(" ", "").split(",")
        assert set(wanted.split(",")) <= set(allowed)
        assert open_one.client.options(CHAT, headers=asked | {"origin": "https://two.example"}).status_code == 403


def test_foreign_pages_are_turned_away_before_anything_runs(tmp_path: Path) -> None:
    made = body(model="octavo-tiny", max_tokens=4)
    with running(tiny_service(tmp_path)) as open_one:
        for headers in ({"origin": "https://evil.example"}, {"host": "evil.example:8000"}):
            refused = open_one.client.post(CHAT, json=made, headers=headers)
            assert refused.status_code == 403
            assert refused.json()["error"]["message"].startswith(next(iter(headers)))
        own = {"origin": open_one.url}
        assert open_one.client.post(CHAT, json=made, headers=own).status_code == 200


def test_who_is_turned_away_while_sending_hears_why(tmp_path: Path) -> None:
    with running(tiny_service(tmp_path), api_keys=("a-key-of-this-test",)) as locked:
        host, port = locked.url.removeprefix("http://").split(":")
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {2**20}\r\nconnection: close\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=SECONDS) as sending:
            sending.sendall(head.encode() + b"x" * 2**20)
            time.sleep(0.1)
            told = b"".join(iter(lambda: sending.recv(2**16), b""))  # a reset would raise
        assert told.startswith(b"HTTP/1.1 401")
        assert told.endswith(b"}")


def test_draining_lets_a_stream_end_and_turns_new_ones_away(tmp_path: Path) -> None:
    long = body(model="octavo-tiny", max_tokens=1500, stream=True)
    with (
        running(tiny_service(tmp_path), drain_seconds=60.0) as server,
        httpx.Client(base_url=server.url, timeout=SECONDS) as second,
    ):
        assert second.get("/ready").status_code == 200  # its connection is open before the drain
        with server.client.stream("POST", CHAT, json=long) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            server.drain()
            wait_for(lambda: second.get("/ready").status_code == 503)
            refused = second.post(CHAT, json=long)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"


def test_what_outlasts_the_drain_is_told(tmp_path: Path) -> None:
    endless = body(model="octavo-tiny", max_tokens=4000, stream=True)
    with (
        running(tiny_service(tmp_path), drain_seconds=0.1) as server,
        server.client.stream("POST", CHAT, json=endless) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        threading.Thread(target=server.drain).start()
        rest = [line for line in lines if line]
    assert any('"error"' in line for line in rest), rest[-3:]
