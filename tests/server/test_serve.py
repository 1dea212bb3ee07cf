"""Listening: ports in use, the two signals."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.server.lifecycle import Phase
from octavo.server.serve import CLOSING_SECONDS, STUCK_SECONDS, Server, listen, make_server
from octavo.server.settings import ServerSettings
from tests.support.asking import wait_for
from tests.support.listening import SECONDS, running, tiny_service

DRAIN_SECONDS = 0.3


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            listen(ServerSettings(port=port))


def test_an_address_of_others_is_told() -> None:
    with pytest.raises(UsageError, match="cannot listen on 203.0.113.9"):
        listen(ServerSettings(host="203.0.113.9", api_keys=("k",)))


def test_the_first_signal_drains_and_the_second_ends(tmp_path: Path) -> None:
    service = tiny_service(tmp_path)
    with running(service) as one:
        assert one.client.get("/ready").status_code == 200
        assert not one.server.should_exit
        one.server.handle_exit(signal.SIGTERM, None)
        assert not one.server.force_exit
        one.server.handle_exit(signal.SIGTERM, None)
        assert one.server.should_exit
        assert one.server.force_exit
    service.close()


def test_an_idle_server_ends_by_itself_and_closes_the_service(tmp_path: Path) -> None:
    service = tiny_service(tmp_path)
    with running(service) as one:
        assert one.client.get("/ready").status_code == 200
        life = one.server._lifecycle
    assert life.phase is Phase.OVER
    assert service.status().draining
    assert service.llm.pool.allocator.used == 0


def test_a_signal_before_the_start_ends_at_once(tmp_path: Path) -> None:
    service = tiny_service(tmp_path)
    server = make_server(service, ServerSettings(port=0))
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit
    service.close()


@contextmanager
def narrow(folder: Path) -> Iterator[tuple[Server, int, threading.Thread]]:
    """A server whose connections hold little of what a client does not take; it is drained when the block ends."""
    service = tiny_service(folder)
    settings, is_up = ServerSettings(port=0, drain_seconds=DRAIN_SECONDS), threading.Event()
    with listen(settings) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # connections inherit it
        server = make_server(service, settings, on_listening=is_up.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        assert is_up.wait(SECONDS)
        try:
            yield server, listening.getsockname()[1], thread
        finally:
            server.handle_exit(signal.SIGTERM, None)
            thread.join(SECONDS)
            service.close()
    assert not thread.is_alive()


def ask(port: int, path: str, **fields: object) -> socket.socket:
    """A client that sends its request and takes nothing of the answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    body = json.dumps({"model": "octavo-tiny"} | fields).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    client.sendall(f"{head}\r\n\r\n".encode() + body)
    return client


CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4000, "stream": True, "logprobs": True,
        "top_logprobs": 20, "n": 4}  # fmt: skip
TEXT = {"prompt": "the sea " * 40_000, "return_token_strs": True}


@pytest.mark.parametrize(("path", "fields"), [("/v1/chat/completions", CHAT), ("/tokenize", TEXT)])
def test_a_client_that_takes_nothing_does_not_hold_up_the_end(tmp_path: Path, path: str, fields: dict) -> None:
    """A stream that stands still in the middle, and a body that was written whole but never taken."""
    with narrow(tmp_path) as (server, port, thread), ask(port, path, **fields):
        wait_for(lambda: any(size > 2**16 for size in server._unsent().values()))
        began = time.monotonic()
        server.handle_exit(signal.SIGTERM, None)
        thread.join(SECONDS)
        took = time.monotonic() - began
    assert STUCK_SECONDS <= took < DRAIN_SECONDS + STUCK_SECONDS + CLOSING_SECONDS / 2


def test_a_slow_client_gets_all_of_its_answer(tmp_path: Path) -> None:
    """It takes a little at a time while the server ends, and the whole body all the same."""
    with narrow(tmp_path) as (server, port, thread), ask(port, "/tokenize", **TEXT) as client:
        client.settimeout(SECONDS)
        wait_for(lambda: any(size > 2**16 for size in server._unsent().values()))
        server.handle_exit(signal.SIGTERM, None)
        taken = bytearray()
        while part := client.recv(2**15):
            taken += part
        thread.join(SECONDS)
    head, _, body = bytes(taken).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
