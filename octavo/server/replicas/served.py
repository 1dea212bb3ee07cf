"""The application inside a replica, called with messages in place of a socket.

Covers: running it on a request, bodies, giving a request up, counting tokens for callers, lines for the log. Does not
cover: the application (`octavo.server.app`), how messages travel (`replica`). Knows nothing of Ray.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope

from octavo.server.app import create_app
from octavo.server.logs import JsonLines
from octavo.server.replicas.messages import Asked, Head, Over, Part, Taken
from octavo.server.settings import ServerSettings

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

CLOSING_SECONDS = 5.0
MAX_LINES = 1000
GAP_SECONDS = 0.002
"""Between two messages with parts of bodies, over all answers under way: each takes Ray and the front about 2 ms."""
_CHUNK = 2**20
_CLIENT = "address "  # what a server without keys calls the client of a request


class Tally:
    """Tokens that each caller's jobs took, until the front takes them. Safe between threads."""

    def __init__(self) -> None:
        self._lock, self._charges = threading.Lock(), Counter[str]()

    def charge(self, caller: str | None, tokens: int) -> None:
        """Count what a job took."""
        with self._lock:
            self._charges[(caller or "").removeprefix(_CLIENT)] += tokens

    def take(self) -> tuple[tuple[str, int], ...]:
        """Tokens of all jobs that ended since this was last asked, by caller."""
        with self._lock:
            charges, self._charges = self._charges, Counter()
        return tuple(charges.items())


class Lines(logging.Handler):
    """What a replica logs, until the front takes it; the oldest lines are lost beyond 1,000."""

    def __init__(self, replica: str) -> None:
        super().__init__()
        self._replica, self._lines = replica, deque[str](maxlen=MAX_LINES)
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        record.fields = getattr(record, "fields", {}) | {"replica": self._replica}
        self._lines.append(self.format(record))

    def drain(self) -> tuple[str, ...]:
        """The lines since the last time."""
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return tuple(lines)


class Served:
    """The application over `service`; `start` and `close` it."""

    def __init__(self, service: Service, settings: ServerSettings, *, id: str) -> None:
        self.id, self.service = id, service
        self._tally, self.lines = Tally(), Lines(id)
        self._app = create_app(service, settings, charge=self._tally.charge)
        self._under_way = 0
        self._life = self._app.router.lifespan_context(self._app)

    async def start(self) -> None:
        """Ready for requests."""
        await self._life.__aenter__()

    async def close(self) -> None:
        """Let jobs under way end, and give everything back."""
        await self._life.__aexit__(None, None, None)

    def page(self) -> bytes:
        """The body of /metrics."""
        return self._app.state.metrics.page()

    async def answer(self, asked: Asked) -> AsyncGenerator[tuple[Part, ...], None]:
        """The answer's parts, those together that are there together. Ending early gives the request up."""
        calling, since = _Call(self._app, asked), -math.inf
        self._under_way += 1
        try:
            yield (Taken(replica=self.id),)
            while True:
                gap = since + GAP_SECONDS * self._under_way - time.monotonic()
                parts, is_over = await calling.more(gap)
                if is_over:
                    charges, lines = self._tally.take(), self.lines.drain()
                    yield (*parts, Over(charges=charges, lines=lines, whole=calling.is_whole))
                    return
                since = time.monotonic() if any(isinstance(part, bytes) for part in parts) else since
                yield tuple(parts)
        finally:
            self._under_way -= 1
            await calling.close()


class _Call:
    """The application on one request."""

    def __init__(self, app: ASGIApp, asked: Asked) -> None:
        self.is_whole = False
        self._parts: asyncio.Queue[Head | bytes | None] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._task = asyncio.create_task(self._run(app, asked))

    async def more(self, gap: float) -> tuple[list[Part], bool]:
        """What there is `gap` seconds from now, at least one part; whether the answer is over."""
        found: list[Part] = []
        part = await self._parts.get()
        if gap > 0 and part is not None:
            await asyncio.sleep(gap)
        while part is not None:
            found.append(part)
            if self._parts.empty():
                return found, False
            part = self._parts.get_nowait()
        return found, True

    async def close(self) -> None:
        """Tell the application that nobody listens any more, and see it end."""
        self._gone.set()
        done, _ = await asyncio.wait({self._task}, timeout=CLOSING_SECONDS)
        if not done:
            self._task.cancel()

    async def _run(self, app: ASGIApp, asked: Asked) -> None:
        try:
            await app(_scope(asked), self._receiver(asked.body), self._send)
        except Exception:
            pass  # the application has logged it; where nothing was sent, it has answered as well
        finally:
            self._parts.put_nowait(None)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._parts.put_nowait(Head(status=message["status"], headers=tuple(message.get("headers", ()))))
        elif message["type"] == "http.response.body":
            if body := message.get("body", b""):
                self._parts.put_nowait(bytes(body))
            if not message.get("more_body", False):
                self.is_whole = True
                self._parts.put_nowait(None)  # beside the last bytes, though the application may have more to do

    def _receiver(self, body: bytes | Path) -> Receive:
        chunks = _chunks(body)

        async def receive() -> Message:
            chunk = await asyncio.to_thread(next, chunks, None) if isinstance(body, Path) else next(chunks, None)
            if chunk is not None:
                return {"type": "http.request", "body": chunk[0], "more_body": chunk[1]}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        return receive


def _chunks(body: bytes | Path) -> Any:
    """Pairs of some of the body and whether more comes."""
    if isinstance(body, bytes):
        yield body, False
        return
    with body.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk, True
    yield b"", False


def _scope(asked: Asked) -> Scope:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
        "method": asked.method, "path": asked.path, "raw_path": asked.raw_path, "query_string": asked.query,
        "root_path": "", "headers": list(asked.headers), "client": (asked.caller, 0), "server": ("localhost", 0),
    }  # fmt: skip
