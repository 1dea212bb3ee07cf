"""A server as a client sees it: addresses, keys, streams as odd as HTTP lets them be, refusals, broken connections."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from octavo.cli.remote import Remote, RemoteError, shown
from octavo.config.errors import UsageError
from tests.support.scripted_http import SECONDS, Answer, saying, scripted


def events(stream: bytes) -> list[dict[str, Any]]:
    """What a stream of these bytes is read as."""
    with scripted(saying(stream)) as url:
        return list(Remote(url).events("/x", {}))


def refusal(answer: Answer, key: str = "") -> RemoteError:
    """What a request that is answered so fails with."""
    with scripted(answer) as url, pytest.raises(RemoteError) as failed:
        Remote(url, key).get("/x")
    assert str(failed.value).startswith(f"{url}: ")
    assert "\n" not in str(failed.value)
    return failed.value


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:8000", "ftp://localhost", "http://", "http://:8000", "http://a:99999", "http://a:b", "http://[::1",
        "http://a b", "http://a\n", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_address_is_bad_usage(url: str) -> None:
    with pytest.raises(UsageError, match="--url is .* as http://localhost:8000"):
        Remote(url)


@pytest.mark.parametrize("url", ["http://me:hush@a", "http://a/?key=hush", "http://a/#hush"])
def test_keys_in_addresses_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="given as OCTAVO_API_KEY") as failed:
        Remote(url)
    assert "hush" not in str(failed.value)


@pytest.mark.parametrize("key", ["two words", "a\r\nx: y", "schlüssel"])
def test_keys_that_no_header_carries_are_refused(key: str) -> None:
    with pytest.raises(UsageError, match="OCTAVO_API_KEY has characters"):
        Remote("http://a", key)


@pytest.mark.parametrize(
    ("behind", "path"),
    [("", "/x"), ("/", "/x"), ("/v1", "/x"), ("/v1/", "/x"), ("/models/o", "/models/o/x"), ("/ü/v1/", "/%C3%BC/x")],
)
def test_requests_go_below_the_address_with_the_key(behind: str, path: str) -> None:
    seen: list[tuple[str, str | None]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, handler.headers["authorization"]))
        saying(b"{}")(handler)

    with scripted(answer) as url:
        assert Remote(url + behind, "hush").get("/x") == {}
        assert Remote(url + behind).get("/x") == {}
    assert seen == [(path, "Bearer hush"), (path, None)]


def test_bodies_are_utf8_with_lone_surrogates_spelled_out() -> None:
    seen: list[bytes] = []

    def answer(handler: Any) -> None:
        seen.append(handler.body)
        saying(b"data: [DONE]\n\n")(handler)

    with scripted(answer) as url:
        assert list(Remote(url).events("/x", {"text": "雪\ud800"})) == []
    assert seen == ['{"text": "雪\\ud800"}'.encode()]
    assert json.loads(seen[0]) == {"text": "雪\ud800"}


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b'data: {"a": 1}\n\ndata: {"a": 2}\n\n', [1, 2]),
        (b'data:{"a": 1}\r\n\r\ndata:  {"a": 2}\r\n\r\n', [1, 2]),
        (b': keep-alive\n\n: reading 1/2\n\n\n\ndata: {"a": 1}\n: more\n\n', [1]),
        (b'id: 7\nretry: 3\nevent: made\ndata: {"a": 1}\n\n', [1]),
        (b'data: {"a":\ndata: 1}\n\n', [1]),
        (b'data: {"a": "\xe9\x9b\xaa\xe2\x80\xa8"}\n\n', ["雪\u2028"]),
        (b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"a": 2}\n\n', [1]),
        (b'data: {"a": 1}\n\ndata: {"a": 2}\n', [1]),
        (b'data: {"a": 1}\n\ndata: {"a"', [1]),
        (b"", []),
        (b"<html></html>\n\n", []),
    ],
)
def test_streams(stream: bytes, found: list[Any]) -> None:
    assert [event["a"] for event in events(stream)] == found


def test_streams_cut_anywhere_into_chunks_read_the_same() -> None:
    stream = ': x\r\n\r\ndata: {"a": "雪"}\r\n\r\ndata: {"a": 2}\n\ndata: [DONE]\n\n'.encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        size = int(handler.path.rpartition("/")[2])
        for at in range(0, len(stream), size):
            part = stream[at : at + size]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    with scripted(answer) as url:
        for size in (1, 2, 7, 1000):
            assert list(Remote(url).events(f"/{size}", {})) == [{"a": "雪"}, {"a": 2}]


@pytest.mark.parametrize("stream", [b"data: nonsense\n\n", b"data: [1]\n\n", b"data: " + b"[" * 100_000 + b"\n\n"])
def test_events_that_are_no_objects(stream: bytes) -> None:
    with pytest.raises(RemoteError, match="no JSON object; is it an Octavo server"):
        events(stream)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b'event: error\ndata: {"error": {"message": "late\\nreply"}}\n\n', "late reply"),
        (b'data: {"error": "late"}\n\n', "late"),
        (b'data: {"error": {"code": 7}}\n\n', "the server failed"),
    ],
)
def test_error_events_end_a_stream(stream: bytes, message: str) -> None:
    with scripted(saying(b'data: {"a": 1}\n\n' + stream)) as url:
        found = Remote(url).events("/x", {})
        assert next(found) == {"a": 1}
        with pytest.raises(RemoteError) as failed:
            next(found)
    assert str(failed.value) == f"{url}: {message}"


def told(message: str) -> bytes:
    """The body of a refusal."""
    return json.dumps({"error": {"message": message, "type": "x", "param": None, "code": None}}).encode()


@pytest.mark.parametrize(
    ("answer", "key", "status", "message"),
    [
        (saying(told("an api key is needed"), 401), "", 401, "401: it wants a key: set OCTAVO_API_KEY"),
        (saying(told("unknown"), 401), "hush", 401, "401: it does not know the key of OCTAVO_API_KEY"),
        (saying(told("there is no document 'x'"), 404), "", 404, "404: there is no document 'x'"),
        (saying(b"<html>", 404), "", 404, "404: Not Found; is it an Octavo server?"),
        (saying(b'{"detail": "Not Found"}', 404), "", 404, "404: Not Found; is it an Octavo server?"),
        (saying(told("too many"), 429, {"retry-after": "7"}), "", 429, "429: too many; retry after 7 s"),
        (saying(b"", 503, {"retry-after": "Friday"}), "", 503, "503: Service Unavailable; retry after Friday"),
        (saying(b"", 301, {"location": "https://a/"}), "", 301, "301: it is elsewhere: https://a/"),
        (saying(told("a\x1b[2Jb\nc"), 400), "", 400, "400: a?[2Jb c"),
        (saying(b"[]"), "", None, "what it answers is no JSON object; is it an Octavo server?"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(answer: Answer, key: str, status: int | None, message: str) -> None:
    error = refusal(answer, key)
    assert error.status == status
    assert str(error).partition(": ")[2] == message


def test_a_server_that_is_not_there() -> None:
    with closing(socket.socket()) as bound:  # bound and not listening: nobody else has the port either
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(RemoteError, match=f"^{url}: no server can be reached: Connection refused$"):
            Remote(url).get("/x")


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_hosts_that_are_no_names(host: str) -> None:
    with pytest.raises(RemoteError, match="no server can be reached: "):
        Remote(f"http://{host}").get("/x")


def test_a_server_that_does_not_encrypt() -> None:
    with scripted(saying(b"{}")) as url, pytest.raises(RemoteError, match="no server can be reached: .*SSL"):
        Remote(url.replace("http:", "https:")).get("/x")


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 ", b"\x1b[2J?\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"]
)
def test_connections_that_break_off(sent: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(sent)

    with scripted(answer) as url, pytest.raises(RemoteError, match=f"^{url}: the connection broke off: ") as failed:
        Remote(url).get("/x")
    assert failed.value.status is None
    assert str(failed.value).isprintable()


def test_a_refusal_is_heard_though_the_body_was_not_taken() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        refused = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n\r\n" + told("larger than 9 bytes")

        def refuse() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(100)
                taken.sendall(refused)

        thread = threading.Thread(target=refuse)
        thread.start()
        remote = Remote(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(RemoteError, match="413: larger than 9 bytes$"):
            list(remote.events("/x", {"text": "x" * (1 << 22)}))
        thread.join(SECONDS)


def test_closing_a_stream_closes_its_connection() -> None:
    over = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'data: {"a": 1}\n\n')
        handler.connection.settimeout(SECONDS)
        assert handler.rfile.read(1) == b""
        over.set()

    with scripted(answer) as url, closing(Remote(url).events("/x", {})) as found:
        assert next(found) == {"a": 1}
        found.close()
        assert over.wait(SECONDS)


def test_what_servers_write_is_shown_on_a_short_line() -> None:
    assert shown("a\n b\x07" + "c" * 1000) == "a b?" + "c" * 396 + "…"
    assert shown(None) == shown(7) == ""
