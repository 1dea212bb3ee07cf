"""What of an answer is held, passed and told, to the byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.types import Message

from octavo.server.refusal import Refusal
from octavo.server.replicas.messages import Head
from octavo.server.replicas.outgoing import Outgoing
from tests.support.serving import stream_events

STREAM = Head(status=200, headers=((b"content-type", b"text/event-stream; charset=utf-8"),))
JSON = Head(status=200, headers=((b"content-type", b"application/json"),))
ROLE = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
TEXT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
CREATED = b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"r"}}\n\n'
GOING = b'event: response.in_progress\ndata: {"type":"response.in_progress","sequence_number":1}\n\n'
ADDED = b'event: response.output_item.added\ndata: {"type":"response.output_item.added","sequence_number":2}\n\n'
GONE = Refusal("it is gone", status=503)


def sent(
    steps: Callable[[Outgoing], Coroutine[Any, Any, None]], path: str = "/v1/chat/completions"
) -> list[Message]:  # fmt: skip
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {"type": "http", "path": path, "method": "POST", "headers": [], "state": {"request_id": "req"}}
    asyncio.run(steps(Outgoing(scope, send)))
    return messages


def body(messages: list[Message]) -> bytes:
    assert [message["type"] for message in messages].count("http.response.start") == 1
    assert [message.get("more_body") for message in messages[1:]] == [True] * (len(messages) - 2) + [False]
    return b"".join(message.get("body", b"") for message in messages)


def test_what_is_no_stream_passes_as_it_comes() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(JSON)
        assert not out.begun
        await out.body(b"{")
        assert out.begun
        await out.body(b"}", is_last=True)
        await out.end()

    messages = sent(steps)
    assert [message.get("body") for message in messages] == [None, b"{", b"}"]
    assert body(messages) == b"{}"
    assert messages[0]["headers"] == list(JSON.headers)


def test_openings_are_held_until_something_is_said() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(ROLE)
        assert not out.begun
        await out.body(b": reading 1/2\n\n" + TEXT[:20])
        assert not out.begun
        await out.body(TEXT[20:] + b"data: [DO")
        assert out.begun
        await out.body(b"NE]\n\n")
        await out.end()

    assert body(sent(steps)) == b": reading 1/2\n\n" + ROLE + TEXT + b"data: [DONE]\n\n"


@pytest.mark.parametrize("cut", range(1, len(ROLE + TEXT), 7))
def test_streams_are_unchanged_wherever_they_are_cut(cut: int) -> None:
    whole = ROLE + TEXT + b"data: [DONE]\n\n"

    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(whole[:cut])
        await out.body(whole[cut:])
        await out.end()

    assert body(sent(steps)) == whole


def test_a_new_beginning_is_not_seen() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(b": keep-alive\n\n" + ROLE.replace(b'"c"', b'"lost"') + TEXT[:9])
        out.restart()
        await out.head(STREAM)
        await out.body(ROLE + TEXT)
        await out.end()

    assert body(sent(steps)) == b": keep-alive\n\n" + ROLE + TEXT


def test_a_new_beginning_may_be_another_answer_before_anything_is_sent() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(ROLE)
        out.restart()
        await out.head(Head(status=429, headers=JSON.headers))
        await out.body(b"{}", is_last=True)

    messages = sent(steps)
    assert messages[0]["status"] == 429
    assert body(messages) == b"{}"


def test_an_error_of_a_new_beginning_ends_the_stream_that_comments_opened() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(b": keep-alive\n\n")
        out.restart()
        await out.head(Head(status=429, headers=JSON.headers))
        await out.body(b'{"error":')
        await out.body(b'{"message":"full"}}', is_last=True)
        await out.end()

    events = stream_events(body(sent(steps)).decode())
    assert events == [("comment", "keep-alive"), ("error", {"error": {"message": "full"}})]


def test_a_stream_without_anything_said_ends_with_its_openings() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(ROLE, is_last=True)
        await out.end()

    assert body(sent(steps)) == ROLE


def test_failing_before_anything_is_an_answer() -> None:
    messages = sent(lambda out: out.fail(GONE))
    assert messages[0]["status"] == 503
    assert json.loads(messages[1]["body"])["error"]["message"] == "it is gone"


@pytest.mark.parametrize(
    ("path", "before", "told"),
    [
        ("/v1/chat/completions", ROLE + TEXT, ("error", "error", "overloaded_error")),
        ("/v1/messages", b'event: message_start\ndata: {}\n\nevent: x\ndata: {"type":"x"}\n\n',
         ("error", "error", "overloaded_error")),
        ("/v1/responses", CREATED + GOING + ADDED, ("response.failed", "response", None)),
    ],
)  # fmt: skip
def test_failing_later_is_an_event_of_the_protocol(path: str, before: bytes, told: tuple[str, str, Any]) -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(STREAM)
        await out.body(before)
        assert out.begun
        await out.fail(GONE)

    whole = body(sent(steps, path))
    assert whole.startswith(before)
    name, event = stream_events(whole.decode())[-1]
    assert name == told[0]
    assert event[told[1]].get("type") == told[2]
    if path == "/v1/responses":
        assert event["sequence_number"] == 3
        assert event["response"]["id"] == "r"
        assert event["response"]["status"] == "failed"
        assert event["response"]["error"] == {"code": "server_error", "message": "it is gone"}
    else:
        assert event["error"]["message"] == "it is gone"


def test_failing_in_the_middle_of_what_is_no_stream_closes_the_connection() -> None:
    async def steps(out: Outgoing) -> None:
        await out.head(JSON)
        await out.body(b"{")
        await out.fail(GONE)

    with pytest.raises(Refusal, match="it is gone"):
        sent(steps)
