"""An answer on its way to the client, which may begin anew as long as nothing of it has been said.

Covers: what of an answer is held back until it really begins, passing the rest on unchanged, telling of a failure in
the shape that the client expects. Does not cover: getting answers (`relay`).

The first events of a stream say that an answer will come, not what it is. They are held until the event behind them, so
that a replica which is lost before has cost the client nothing: another one begins anew. Comments, which tell that the
connection lives or how far a prompt is read, pass at once; clients skip them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.types import Scope, Send

from octavo.server.errors import as_event, fault
from octavo.server.refusal import Refusal, answer, request_id, shape_of
from octavo.server.replicas.messages import Head

_RESPONSES = "/v1/responses"
_END = b"\n\n"
# What protocols send before a model has said anything: a role, the message or response without content, a ping.
_OPENINGS = re.compile(
    rb"event: (?:response\.created|response\.in_progress|message_start|ping)\n"
    rb'|data: \{(?=[^\n]*"object":"chat\.completion\.chunk")(?=[^\n]*"delta":\{"role":"assistant","content":""\})'
)
_NUMBER = re.compile(rb'"sequence_number":\s?(\d+)')


class Outgoing:
    """One client's answer. `begun`: it can no longer begin anew."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._head: Head | None = None
        self._is_stream = False
        self._is_sent = False  # the head went out
        self._held: list[bytes] = []  # openings
        self._rest = b""  # of a block that is not whole
        self._error: list[bytes] | None = None  # a later attempt's answer that is no stream
        self._created = self._last = b""
        self.begun = self._is_over = False

    def restart(self) -> None:
        """What was held back is void: another replica begins anew."""
        assert not self.begun
        self._held, self._rest, self._error, self._created = [], b"", None, b""

    async def head(self, head: Head) -> None:
        """Status and headers of an attempt."""
        kind = dict(head.headers).get(b"content-type", b"")
        is_stream = head.status == 200 and kind.startswith(b"text/event-stream")
        if self._is_sent:  # only comments were sent so far
            self._error = None if is_stream else []
            return
        self._head, self._is_stream = head, is_stream

    async def body(self, data: bytes, *, is_last: bool = False) -> None:
        """Some of the body; `is_last`: the answer is whole with it."""
        if self._error is not None:
            self._error.append(data)
        elif self.begun or not self._is_stream:
            self.begun, self._last = True, data
            await self._pass(data, more=not is_last)
        else:
            await self._open(data)

    async def end(self) -> None:
        """The answer is whole."""
        if self._is_over:
            return
        if self._error is not None:
            data = b"event: error\ndata: " + b"".join(self._error) + _END
        else:
            data = b"".join(self._held) + self._rest
        await self._pass(data, more=False)

    async def fail(self, error: Refusal) -> None:
        """Tell why there is no answer, or no more of it. Raises `error` where half of an answer that is no stream is
        out: only closing the connection says that the rest is missing."""
        if not self._is_sent:
            return await answer(error, self._scope)(self._scope, _nothing, self._send)
        if not self._is_stream:
            raise error
        await self._pass(self._failed(error), more=False)

    async def _open(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data).split(_END)
        for place, block in enumerate(blocks):
            if block.startswith(b":"):
                await self._pass(block + _END)
            elif _OPENINGS.match(block):
                if block.startswith(b"event: response.created"):
                    self._created = block
                self._held.append(block + _END)
            else:
                rest = [one + _END for one in blocks[place:]]
                self._last, self.begun = rest[-1], True
                await self._pass(b"".join((*self._held, *rest)) + self._rest)
                self._held, self._rest = [], b""
                return

    async def _pass(self, data: bytes, *, more: bool = True) -> None:
        if not self._is_sent:
            assert self._head is not None, "an answer without a head"
            head = {"status": self._head.status, "headers": list(self._head.headers)}
            await self._send({"type": "http.response.start", **head})
            self._is_sent = True
        self._is_over = not more  # before it is sent: a client may close the connection at its last byte
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _failed(self, error: Refusal) -> bytes:
        """The event that ends a stream which broke off."""
        if self._scope["path"] == _RESPONSES and self._created:
            return self._response_failed(error)
        id = request_id(self._scope)
        return as_event(error, shape_of(self._scope["path"]), id).encode()

    def _response_failed(self, error: Refusal) -> bytes:
        numbers = _NUMBER.findall(self._last)
        told = {"code": "server_error", "message": fault(error).message}
        response: dict[str, Any] = json.loads(self._created.partition(b"\ndata: ")[2])["response"]
        wire = {
            "type": "response.failed",
            "sequence_number": int(numbers[-1]) + 1 if numbers else 2,
            "response": response | {"status": "failed", "error": told},
        }
        return f"event: response.failed\ndata: {json.dumps(wire, separators=(',', ':'))}\n\n".encode()


async def _nothing() -> Any:
    return {"type": "http.disconnect"}
