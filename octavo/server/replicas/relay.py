"""A request's way through the front: taken in, given to a replica, given to another where that one is lost.

Covers: bodies, choosing by what is known, attempts, clients that leave, the end of the server. Does not cover: keys,
limits and drain, which are layers around it (`front`), calling a replica (`cluster`).

A request is lost with its replica only once its answer has begun; before, it goes to another replica. After three lost
replicas it is answered with 503: it may be what kills them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from octavo.server.media import is_form
from octavo.server.refusal import Refusal, request_id
from octavo.server.replicas.directory import Directory
from octavo.server.replicas.forms import document_name
from octavo.server.replicas.keys import document_key, keys_of, response_key
from octavo.server.replicas.messages import AnswerBroken, Asked, Head, Headers, Hint, Over, Part, ReplicaLost, Taken
from octavo.server.replicas.outgoing import Outgoing

Ask = Callable[[Asked], AsyncGenerator[tuple[Part, ...], None]]
"""Calls a replica. Closing the generator gives the request up; ReplicaLost where the replica is gone."""

ATTEMPTS = 3
MAX_QUIET_BYTES = 65_536
"""A longer body is looked through in a thread."""

# A replica asks for no key, believes its host, and is told the caller otherwise; a body comes whole.
_KEPT_HERE = frozenset(
    {b"authorization", b"x-api-key", b"origin", b"host", b"expect", b"connection", b"transfer-encoding",
     b"x-request-id"}
)  # fmt: skip
_RESPONSE_ID = re.compile(rb'"id":\s?"(resp_[A-Za-z0-9_-]+)"')
_log = logging.getLogger(__name__)


class Relay:
    """The application behind the front's layers."""

    def __init__(
        self, ask: Ask, directory: Directory, *, incoming: Path, charge: Callable[[str, int], None], log_to: TextIO
    ) -> None:  # fmt: skip
        """incoming: folder that replicas read too, for forms on their way; charge(caller, tokens): what jobs took;
        log_to: where lines of replicas' logs go."""
        self._ask, self.directory, self._incoming, self._charge = ask, directory, incoming, charge
        self._running = set[asyncio.Task[None]]()
        self._is_closed, self._log_to = False, log_to
        self.lost = 0
        """Requests whose replica was lost."""

    @property
    def failure(self) -> str | None:
        """None: replicas that are lost are replaced."""
        return None

    def close(self) -> None:
        """Give up every request under way, so that its client hears of it. From any thread."""
        self._is_closed = True
        for task in list(self._running):
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        file = self._incoming / uuid.uuid4().hex if is_form(scope) else None
        try:
            asked, keys = await self._taken_in(scope, receive, file)
            out, traced = Outgoing(scope, send), scope["state"].setdefault("traced", {})
            task = asyncio.create_task(self._attempts(asked, keys, out, traced))
            watcher = asyncio.create_task(_gone(receive))
            self._running.add(task)
            try:
                await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                left = not task.done()
                for one in (task, watcher):
                    one.cancel()
                await asyncio.wait({task, watcher})
                self._running.discard(task)
            if task.cancelled():
                if self._is_closed and not left:
                    await out.fail(Refusal("the request was given up: the server ends", status=503))
                return
            await task
        finally:
            if file is not None:
                file.unlink(missing_ok=True)

    async def _attempts(
        self, asked: Asked, keys: tuple[str, ...], out: Outgoing, traced: dict[str, str | int]
    ) -> None:  # fmt: skip
        """`traced` is told how many replicas had the request, and which was the last one."""
        lost = set[str]()
        for attempt in range(ATTEMPTS):
            traced["octavo.attempts"] = attempt + 1
            hint = self.directory.hint(keys, avoid=lost)
            try:
                return await self._attempt(replace(asked, hint=hint), keys, out, lost, traced)
            except ReplicaLost:
                self.lost += 1
                fields = {"path": asked.path, "has_begun": out.begun, "lost": sorted(lost)}
                _log.warning("a replica was lost", extra={"fields": fields})
                if out.begun:
                    return await out.fail(Refusal("the replica that was answering is gone; ask again", status=503))
                out.restart()
        why = f"{ATTEMPTS} replicas were lost while they had this request"
        await out.fail(Refusal(why, status=503, headers={"retry-after": "5"}))

    async def _attempt(
        self, asked: Asked, keys: tuple[str, ...], out: Outgoing, lost: set[str], traced: dict[str, str | int]
    ) -> None:  # fmt: skip
        """One replica's answer. ReplicaLost where it is gone, which is then among `lost`; AnswerBroken."""
        replica, is_over, learns = None, False, asked.method == "POST" and asked.path == "/v1/responses"
        parts = self._ask(asked)
        try:
            async for some in parts:
                is_over = isinstance(some[-1], Over) and some[-1].whole
                for place, part in enumerate(some):
                    if isinstance(part, Taken):
                        replica = traced["octavo.replica"] = part.replica
                        self.directory.learn(reversed(keys), replica)
                        self.directory.enter(replica)
                    elif isinstance(part, Head):
                        await out.head(part)
                    elif isinstance(part, bytes):
                        if learns and replica and (found := _RESPONSE_ID.search(part)):
                            self.directory.learn((response_key(found[1].decode()),), replica)
                            learns = False
                        await out.body(part, is_last=is_over and place == len(some) - 2)
                    else:
                        self._settle(part)
            if not is_over:
                raise AnswerBroken("the answer broke off; the log of its replica says why")
            await out.end()
        except ReplicaLost:
            lost |= {replica} if replica else set()
            raise
        finally:
            await parts.aclose()
            if replica:
                self.directory.leave(replica)

    def _settle(self, over: Over) -> None:
        for caller, tokens in over.charges:
            self._charge(caller, tokens)
        for line in over.lines:
            print(line, file=self._log_to, flush=True)

    async def _taken_in(self, scope: Scope, receive: Receive, file: Path | None) -> tuple[Asked, tuple[str, ...]]:
        """The request with its whole body, a form's in `file`, and its keys. ClientDisconnect."""
        path = scope["path"]
        body: bytes | Path
        if file is not None:
            kind = dict(scope["headers"]).get(b"content-type", b"")
            length = await _to_file(receive, file)
            body, name = file, await asyncio.to_thread(document_name, file, kind)
            keys = () if name is None else (document_key(name),)
        else:
            body = b"".join([chunk async for chunk in _chunks(receive)])
            length = len(body)
            keys = keys_of(path, body) if length < MAX_QUIET_BYTES else await asyncio.to_thread(keys_of, path, body)
        asked = Asked(
            method=scope["method"], path=path, raw_path=scope.get("raw_path") or path.encode(),
            query=scope["query_string"], headers=_headers(scope, length), caller=scope["state"]["caller"],
            body=body, hint=Hint(),
        )  # fmt: skip
        return asked, keys


def _headers(scope: Scope, length: int) -> Headers:
    """What a replica is told of a request's headers."""
    kept = [pair for pair in scope["headers"] if pair[0] not in _KEPT_HERE and pair[0] != b"content-length"]
    size = [(b"content-length", str(length).encode())] if length else []
    return (*kept, *size, (b"host", b"localhost"), (b"x-request-id", request_id(scope).encode()))


async def _chunks(receive: Receive) -> AsyncGenerator[bytes, None]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _to_file(receive: Receive, file: Path) -> int:
    length = 0
    with file.open("xb") as written:
        async for chunk in _chunks(receive):
            await asyncio.to_thread(written.write, chunk)
            length += len(chunk)
    return length


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
