"""Listening: ports in use, the two signals."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.server.lifecycle import Phase
from octavo.server.serve import listen, make_server
from octavo.server.settings import ServerSettings
from tests.support.listening import running, tiny_service


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
