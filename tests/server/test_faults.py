"""What must not end a server, nor lose anything: damage, clients that stall, vanish or send junk, ever new schemas.

Covers: a server in this process, sockets at their worst. Does not cover: bodies that are no JSON (`test_app`), kills
and full disks (`test_kills`), fields out of range (`test_extremes`).
"""

from __future__ import annotations

import gc
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.engine.llm import LLM
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.server.bridge import Submission
from tests.support.asking import CHAT, COMPLETIONS, NAME, chat, completion, ids, wait_for
from tests.support.listening import SECONDS, Running, running
from tests.support.tiny_llm import STORY, tiny_llm

RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of no time: a reset instead of an orderly end


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    threads = torch.get_num_threads()
    yield tiny_llm(tmp_path_factory.mktemp("faults") / NAME, chunk=256)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def server(llm: LLM) -> Iterator[Running]:
    service = Service(llm, ServiceSettings(lanes=2, cache_bytes=64 * 2**20, max_running=3, max_queue=200))
    with running(service) as found:
        yield found


def metric(server: Running, line: str) -> float:
    """The value of one line of /metrics."""
    (found,) = [one for one in server.client.get("/metrics").text.splitlines() if one.startswith(line)]
    return float(found.rsplit(" ", 1)[1])


def idle(server: Running) -> bool:
    status, life = server.service.status(), server.server._lifecycle
    return life.under_way == status.running == status.waiting == status.reading == status.swapped == 0


def send(server: Running, path: str, body: dict[str, Any], *, buffer: int | None = None) -> socket.socket:
    """A request on a connection of its own, whose answer nobody reads yet."""
    payload = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(payload)}\r\n\r\n"
    raw = socket.socket()
    raw.settimeout(SECONDS)
    if buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.connect(("127.0.0.1", server.port))
    raw.sendall(head.encode() + payload)
    return raw


def vanish(raw: socket.socket) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    raw.close()


def test_a_client_that_reads_nothing_holds_nobody_up(server: Running) -> None:
    life, before = server.server._lifecycle, server.service.status()
    for one in server.server.servers:  # connections inherit it: what is not read does not vanish into a large buffer
        for listening in one.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    slow = chat(max_tokens=300, stream=True, temperature=0, logprobs=True, top_logprobs=20)
    with send(server, CHAT, slow, buffer=2048) as raw:
        for _ in range(3):
            assert server.client.post(CHAT, json=chat()).status_code == 200
        wait_for(lambda: server.service.status().ended == before.ended + 4)
        assert server.service.status().running == 0
        assert life.under_way == 1, "all of it was sent: a larger answer is needed"
        assert server.client.post(CHAT, json=chat()).status_code == 200
        read = b""
        while not read.endswith(b"0\r\n\r\n"):
            part = raw.recv(65_536)
            assert part, "the stream was cut"
            read += part
    assert read.count(b'"logprob":') >= 300 * 21
    assert b"data: [DONE]" in read
    wait_for(lambda: idle(server))
    with send(server, CHAT, slow, buffer=2048) as raw:  # and one that never reads any of it
        wait_for(lambda: server.service.status().running == 0 and life.under_way == 1)
        vanish(raw)
    wait_for(lambda: idle(server))


def test_clients_that_vanish_anywhere_leave_nothing(server: Running) -> None:
    service = server.service
    wait_for(lambda: idle(server))
    before = service.status()
    raws = []
    for place in range(48):
        length = (5, 300, 3000)[place % 3]
        body = {"model": NAME, "prompt": ids(place, length), "stream": place % 4 < 2}
        raws.append(send(server, COMPLETIONS, body | {"max_tokens": 900 if body["stream"] else 200}))
    wait_for(lambda: service.status().running == 3 and service.status().waiting >= 30)
    draw = random.Random(5)
    draw.shuffle(raws)
    for raw in raws[:30]:  # most of them wait; the running ones are somewhere
        vanish(raw)
    for raw in raws[30:]:
        raw.setblocking(False)
    left = set(raws[30:])
    until = time.monotonic() + SECONDS
    while left and time.monotonic() < until:  # the others in the middle of their streams, or after the whole answer
        for raw in list(left):
            with suppress(BlockingIOError):
                assert raw.recv(16)
                left.discard(raw)
                vanish(raw)
    assert not left
    wait_for(lambda: idle(server))
    after = service.status()
    assert after.ended + after.cancelled == before.ended + before.cancelled + 48
    assert after.cancelled - before.cancelled >= 30
    assert after.failed == before.failed
    service.check_integrity()
    wait_for(lambda: not [one for one in gc.get_objects() if type(one) is Submission])
    for name in ("running", "waiting", "reading", "swapped"):
        assert metric(server, f"octavo:num_requests_{name}{{") == 0
    assert metric(server, f'octavo:cache_bytes{{kind="sequences",model_name="{NAME}"}}') == 0
    service.hits.forget()
    assert metric(server, "octavo:cache_pages_used{") == 0


def test_vanishing_while_a_document_is_read_gives_it_up(server: Running) -> None:
    before = server.service.status().cancelled
    for place in range(6):
        raw = send(server, "/v1/documents" + "?stream=true" * (place % 2), {"name": f"doc{place}", "text": STORY * 25})
        wait_for(lambda place=place: f"doc{place}" in server.service.library.names())
        vanish(raw)
    wait_for(lambda: idle(server))
    assert server.service.status().cancelled > before
    for name in server.service.library.names():  # one that was faster than its client's end
        server.service.library.remove(name)
    server.service.check_integrity()


def test_a_storm_of_junk_leaves_it_healthy(server: Running) -> None:
    draw = random.Random(7)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    junk = [
        head + b"content-length: 99\r\n\r\n{",
        head + b"content-length: -1\r\n\r\n{}",
        head + b"content-length: " + b"9" * 5000 + b"\r\n\r\n{}",
        head + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        head + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        head + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        head + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
        head + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
        head + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
        b"POST /v1/documents/%ff%fe/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
        b"GET /v1/documents/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\0" * 5000,
    ]
    for _ in range(60):
        junk.append(draw.randbytes(draw.randrange(1, 4000)))
        junk.append(head + b"content-length: 50\r\n\r\n" + draw.randbytes(50))
        good = bytearray(head + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        for _ in range(draw.randrange(1, 4)):
            good[draw.randrange(len(good))] = draw.randrange(256)
        junk.append(bytes(good))
    for sent in junk:
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw, suppress(ConnectionError):
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            got = b""
            while part := raw.recv(65_536):
                got += part
            assert not got or got.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2", b"HTTP/1.1 100")), (sent[:200], got[:300])
    wait_for(lambda: idle(server))
    assert server.client.get("/ready").status_code == 200
    assert server.client.post(CHAT, json=chat()).status_code == 200


# Starlette leaves the file of a form that was cut off to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_forms_that_are_broken_or_cut_off(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    draw, life = random.Random(9), server.server._lifecycle
    part = b'--b\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    form = part % (b"name", b"", b"tale") + part % (b"file", b'; filename="t.txt"', STORY.encode()) + b"--b--\r\n"
    head = "POST /v1/documents HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\n"
    for _ in range(5):  # gone while more than what fits into memory is on its way
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
            raw.sendall(f"{head}content-length: 9000000\r\n\r\n".encode() + form[:-10] + b"x" * 3_000_000)
            wait_for(lambda: life.under_way == 1)
            vanish(raw)
        wait_for(lambda: idle(server))
    kind = {"content-type": "multipart/form-data; boundary=b"}
    for _ in range(80):
        bad = bytearray(form)
        for _ in range(draw.randrange(1, 4)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        sent = bytes(bad[: draw.randrange(len(bad))] if draw.random() < 0.3 else bad)
        found = server.client.post("/v1/documents", content=sent, headers=kind)
        assert found.status_code in (201, 400), (sent, found.text)
        for name in server.service.library.names():
            server.service.library.remove(name)
    assert "a request failed" not in caplog.text
    wait_for(lambda: idle(server))
    gc.collect()


def test_ever_new_schemas_are_bounded(server: Running) -> None:
    grammars = server.service.grammars

    def schema(number: int) -> dict[str, Any]:
        kind = {"type": "string", "enum": [f"v{number}", "w"]} if number % 3 else {"$ref": f"#/$defs/none{number}"}
        name = f"p{number}"
        return {"type": "object", "properties": {name: kind}, "required": [name], "additionalProperties": False}

    for number in range(200):
        found = server.client.post(CHAT, json=chat(max_tokens=1, guided_json=schema(number)))
        assert found.status_code == (200 if number % 3 else 400), found.text
        assert len(grammars) <= grammars.limits.cached < 200
    again = server.client.post(CHAT, json=chat(max_tokens=60, temperature=0, guided_json=schema(1)))
    assert json.loads(again.json()["choices"][0]["message"]["content"])["p1"] in ("v1", "w")


def test_a_changed_byte_of_a_shelf_is_found_and_the_file_dropped(
    llm: LLM, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = ids(1, 1500)

    def restarted() -> tuple[object, int, int]:
        service = Service(llm, ServiceSettings(lanes=1, cache_bytes=64 * 2**20, folder=tmp_path))
        with running(service) as server:
            found = completion(server.client, prompt).json()
            cached = found["usage"]["prompt_tokens_details"]["cached_tokens"]
            return found["choices"], cached, service.shelf.damaged + service.shelf.foreign

    first = restarted()
    assert first[1:] == (0, 0)
    (file,) = tmp_path.glob("prefix-*")
    good = file.read_bytes()
    for at in (0.0, 0.3, 0.9):
        bad, place = bytearray(good), int(at * (len(good) - 1))
        bad[place] ^= 1
        file.write_bytes(bad)
        caplog.clear()
        with caplog.at_level("INFO", logger="octavo.engine.serving.shelf"):
            assert restarted() == (first[0], 0, 1), f"byte {place}"
        assert "removed a" in caplog.text
        assert file.read_bytes() == good  # read again, and written again
    for cut in (0, len(good) - 1):
        file.write_bytes(good[:cut])
        assert restarted() == (first[0], 0, 1), f"cut at {cut}"
    assert restarted() == (first[0], 1280, 0)
