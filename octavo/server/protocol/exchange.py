"""One request and its answer, whatever the protocol.

Covers: a body read as JSON, a whole answer collected while the client still waits for it. Does not cover: streams
(`octavo.server.stream`), what a body may hold. Loads no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.server.bridge import Bridge
from octavo.server.errors import FieldError
from octavo.server.protocol.common import attended
from octavo.server.turn import Turn, TurnEvent

_LARGE_BYTES = 2**18  # parsing more than this would hold up other clients for milliseconds


async def read_json(request: Request, bridge: Bridge) -> Any:
    """The body as a JSON value; FieldError where it is none."""
    raw = await request.body()
    return await bridge.run_blocking(_parsed, raw) if len(raw) > _LARGE_BYTES else _parsed(raw)


def json_response(payload: Any) -> Response:
    """A JSON answer in ASCII: what a client sent or a model made may hold lone surrogates, which UTF-8 cannot."""
    return Response(json.dumps(payload, allow_nan=False), media_type="application/json")


async def collect(request: Request, turn: Turn, take: Callable[[TurnEvent], object]) -> None:
    """Give every event of `turn` to `take`. A client that leaves meanwhile cancels the turn: CancelledJob."""

    async def taken() -> None:
        async for event in turn:
            take(event)

    try:
        await attended(request, taken())
    finally:
        turn.close()


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FieldError(f"the body is not JSON: {reason}", code="invalid_json") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value
