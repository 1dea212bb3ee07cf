"""A real server over a tiny model: its own thread, a free port, the service's lanes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from octavo.engine.serving.library import Library
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from octavo.server.serve import Server, listen, make_server
from octavo.server.settings import ServerSettings
from tests.support.tiny_llm import tiny_llm

SECONDS = 30


def tiny_service(folder: Path, documents: Path | None = None, **fields: Any) -> Service:
    """A service, not started, with one lane; `fields` are the model's."""
    llm = tiny_llm(folder / "octavo-tiny", chunk=256, **fields)
    return Service(llm, ServiceSettings(lanes=1, cache_bytes=64 * 2**20), library=Library(llm, documents))


class Running:
    """A server under way: `server`, `service`, its `url`, and a client that sends its key."""

    def __init__(self, server: Server, service: Service, port: int, key: str | None) -> None:
        self.server, self.service, self.port = server, service, port
        self.url = f"http://127.0.0.1:{port}"
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS)

    def drain(self) -> None:
        """What the first signal does."""
        self.server.handle_exit(15, None)


@contextmanager
def running(service: Service, **settings: Any) -> Iterator[Running]:
    """Serve `service` on a free port until the block ends; then it is closed and idle."""
    given = ServerSettings(**({"port": 0, "drain_seconds": 5.0} | settings))
    is_up = threading.Event()
    with listen(given) as listening:
        server = make_server(service, given, on_listening=is_up.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        port = listening.getsockname()[1]
        thread.start()
        assert is_up.wait(SECONDS), "the server does not start"
        found = Running(server, service, port, given.api_keys[0] if given.api_keys else None)
        try:
            yield found
        finally:
            found.client.close()
            if not server._is_ending:  # a second signal would end it without closing the service
                found.drain()
            thread.join(SECONDS)
            assert not thread.is_alive(), "the server does not end"
