"""Answering a request that failed or is turned away.

Covers: the error that middlewares raise, which protocol's shape a path has, sending the answer, a body that nobody will
read. Does not cover: what each error means (`errors`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from octavo.server.errors import Shape, body, fault, response

SPARE_BYTES = 4 * 2**20
SPARE_SECONDS = 2.0

_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    503: "unavailable",
}


class Refusal(HTTPException):
    """Turned away with an HTTP status and one line that says why. It is Starlette's own kind of error, so that one
    raised while a body is read passes through the web library as it is."""

    def __init__(self, message: str, *, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status_code=status, detail=message, headers=headers)


def shape_of(path: str) -> Shape:
    """The protocol whose error bodies `path` has: Anthropic's below /v1/messages, OpenAI's everywhere else."""
    return Shape.ANTHROPIC if path == "/v1/messages" or path.startswith("/v1/messages/") else Shape.OPENAI


def answer(error: BaseException, scope: Scope) -> JSONResponse:
    """What a client is told, in its protocol's shape, on one line that UTF-8 can carry."""
    given = request_id(scope)
    found, shape = fault(error, given), shape_of(scope["path"])
    found = replace(found, message=printable(found.message), code=found.code or _CODES.get(found.status))
    told = error if isinstance(error, HTTPException) else HTTPException(found.status)
    headers = dict(response(told, shape, given).headers) if found.status != 500 else {}
    headers |= {} if found.retry_after is None else {"retry-after": str(max(1, math.ceil(found.retry_after)))}
    kept = {name: value for name, value in headers.items() if name not in ("content-length", "content-type")}
    return JSONResponse(body(found, shape, given), status_code=found.status, headers=kept)


async def refuse(error: HTTPException, scope: Scope, receive: Receive, send: Send) -> None:
    """Send that answer."""
    await answer(error, scope)(scope, receive, send)


async def turn_away(
    error: HTTPException, scope: Scope, receive: Receive, send: Send, *, most: int = SPARE_BYTES,
    seconds: float = SPARE_SECONDS,
) -> None:  # fmt: skip
    """Send that answer to a request of whose body nothing was read yet; `discard` says what the numbers are."""
    if not any(name == b"expect" for name, _ in scope["headers"]):  # who asks first sends nothing then
        await discard(receive, most=most, seconds=seconds)
    await refuse(error, scope, receive, send)


async def discard(receive: Receive, *, most: int = SPARE_BYTES, seconds: float = SPARE_SECONDS) -> None:
    """Take what is left of a body and throw it away, at most `most` bytes with pauses of at most `seconds`.

    A connection that closes on bytes which nobody read is reset, and its client may never see the answer.
    """
    seen = 0
    while seen <= most:
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except TimeoutError:
            return
        seen += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def request_id(scope: Scope) -> str:
    """The id that `logs` gave the request."""
    return scope.get("state", {}).get("request_id", "")


def printable(text: str) -> str:
    """`text` on one line, with lone surrogates, which no answer could carry, spelled out."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
