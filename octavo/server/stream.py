"""Server-sent events on their way to a client.

Covers: encoding, comments that keep a silent connection open, giving up when the client leaves. Does not cover: what
is sent (`protocol`), the form of errors (`errors`). Loads no torch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_SECONDS = 15.0
DONE = "data: [DONE]\n\n"


def data(payload: Mapping[str, Any], event: str | None = None) -> str:
    """One encoded event. ASCII only: some clients also split lines at characters that JSON lets stand."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {json.dumps(payload, separators=(',', ':'))}\n\n"


def reading(done: int, total: int) -> str:
    """A comment that tells how far the prompt is read; clients skip it."""
    return f": reading {done}/{total}\n\n"


def sse(
    events: AsyncIterator[str | bytes],
    *,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    comment: bytes = b": keep-alive\n\n",
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """A response of already encoded events; `comment` goes out whenever nothing else did for so many seconds.

    `events` must turn its own errors into events. When the client leaves, it is closed (`aclose`) at once.
    """
    given = {"cache-control": "no-cache", "x-accel-buffering": "no"} | dict(headers or {})
    return _EventResponse(_kept_alive(events, keep_alive_seconds, comment), given)


class _EventResponse(StreamingResponse):
    """Closes its iterator however sending ends, rather than when the garbage collector finds it."""

    def __init__(self, steps: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(steps, media_type="text/event-stream", headers=headers)
        self._steps = steps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._steps.aclose()


async def _kept_alive(
    events: AsyncIterator[str | bytes], seconds: float, comment: bytes
) -> AsyncGenerator[bytes, None]:
    step: asyncio.Task[str | bytes | None] | None = None
    try:
        while True:
            step = step or asyncio.create_task(_next(events))
            done, _ = await asyncio.wait({step}, timeout=seconds)
            if not done:
                yield comment
                continue
            item, step = step.result(), None
            if item is None:
                return
            yield item.encode() if isinstance(item, str) else item
    finally:
        # In a task of its own: whoever cancels this one may do so again at the next await.
        await asyncio.shield(asyncio.create_task(_ended(step, events)))


async def _next(events: AsyncIterator[str | bytes]) -> str | bytes | None:
    return await anext(events, None)


async def _ended(step: asyncio.Task[str | bytes | None] | None, events: AsyncIterator[str | bytes]) -> None:
    if step is not None:
        step.cancel()
        await asyncio.wait({step})
    if isinstance(events, AsyncGenerator):
        await events.aclose()
