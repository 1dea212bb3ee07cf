"""Event streams: comments in silence, exact blocks, and an iterator that is closed however its stream ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from octavo.server.stream import data, reading, sse
from tests.support.serving import SECONDS


async def send_all(response: StreamingResponse, *, leave: asyncio.Event | None = None) -> list[dict[str, Any]]:
    """What the response sends to a client that stays, or goes when `leave` is set."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(SECONDS):
        await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    return sent


def bodies(sent: list[dict[str, Any]]) -> list[bytes]:
    return [message["body"] for message in sent if message.get("body")]


def test_blocks_pass_as_they_are_under_the_media_type_of_events() -> None:
    async def two() -> AsyncIterator[str | bytes]:
        yield "data: {}\n\n"
        yield b"data: [DONE]\n\n"

    sent = asyncio.run(send_all(sse(two(), headers={"x-more": "1"})))
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-more"] == b"1"
    assert bodies(sent) == [b"data: {}\n\n", b"data: [DONE]\n\n"]


def test_comment_fills_a_silence_and_loses_nothing() -> None:
    async def slow() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await asyncio.sleep(0.12)
        yield "data: 2\n\n"

    found = bodies(asyncio.run(send_all(sse(slow(), keep_alive_seconds=0.03, comment=b": still\n\n"))))
    assert found[0] == b"data: 1\n\n"
    assert found[-1] == b"data: 2\n\n"
    assert set(found[1:-1]) == {b": still\n\n"}
    assert len(found) >= 4


def test_client_that_leaves_in_a_silence_closes_the_iterator() -> None:
    async def run() -> bool:
        closed, leave = asyncio.Event(), asyncio.Event()

        async def silent() -> AsyncIterator[str]:
            try:
                yield "data: 1\n\n"
                leave.set()
                await asyncio.Event().wait()
            finally:
                closed.set()

        sent = await send_all(sse(silent()), leave=leave)
        assert bodies(sent) == [b"data: 1\n\n"]
        return closed.is_set()

    assert asyncio.run(run())


def test_client_that_leaves_between_events_closes_the_iterator() -> None:
    async def run() -> bool:
        closed, leave = asyncio.Event(), asyncio.Event()

        async def endless() -> AsyncIterator[str]:
            try:
                while True:
                    yield "data: 1\n\n"
            finally:
                closed.set()

        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 20:
                leave.set()
                await asyncio.Event().wait()  # a client that takes nothing more

        async with asyncio.timeout(SECONDS):
            await sse(endless())({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        return closed.is_set()

    assert asyncio.run(run())


def test_error_of_the_iterator_is_raised_and_the_iterator_closed() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        raise ValueError("broken")

    with pytest.raises((ValueError, ExceptionGroup)) as told:
        asyncio.run(send_all(sse(broken())))
    assert "broken" in str(getattr(told.value, "exceptions", told.value))


def test_event_is_one_line_of_ascii() -> None:
    payload = {"text": "line\none\u2028two é"}
    block = data(payload)
    assert block.isascii()
    assert block.endswith("\n\n")
    assert block.count("\n") == 2
    assert json.loads(block.removeprefix("data: ")) == payload
    assert data({}, event="ping") == "event: ping\ndata: {}\n\n"


def test_progress_is_a_comment() -> None:
    assert reading(12288, 262144) == ": reading 12288/262144\n\n"
