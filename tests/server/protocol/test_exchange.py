"""Bodies as JSON, answers as JSON, and whole answers for clients that still wait."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request

from octavo.engine.answer import Finish
from octavo.engine.serving.events import Ended, Piece
from octavo.engine.serving.job import Job
from octavo.server.bridge import Bridge, Submission
from octavo.server.errors import CancelledJob, FieldError
from octavo.server.protocol.exchange import collect, json_response, read_json
from octavo.server.turn import Turn, TurnEnd, TurnEvent
from tests.support.serving import SECONDS, Scripted


def request_of(*messages: dict[str, Any]) -> Request:
    """A request whose client sends `messages` and then stays silent."""
    left = list(messages)

    async def receive() -> Any:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()

    return Request({"type": "http", "headers": []}, receive)


def sent(raw: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": raw, "more_body": False}


def bridge_over(service: Scripted) -> Bridge:
    return Bridge(service)  # type: ignore[arg-type]


def read(raw: bytes) -> Any:
    return asyncio.run(read_json(request_of(sent(raw)), bridge_over(Scripted())))


@pytest.mark.parametrize("size", [1, 300_000])
def test_small_and_large_bodies_are_read(size: int) -> None:
    assert read(json.dumps({"a": "x" * size}).encode()) == {"a": "x" * size}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
        (b"[" * 500_000, "nested too deeply"),
        (b"[NaN]", "NaN is no finite number"),
        (b"[-Infinity]", "-Infinity is no finite number"),
        (b"[1e999]", "1e999 is no finite number"),
        (b"[" + b"9" * 5000 + b"]", "integer"),
    ],
)
def test_what_is_no_json_is_said_to_be_none(raw: bytes, why: str) -> None:
    with pytest.raises(FieldError, match=f"^the body is not JSON: .*{why}") as caught:
        read(raw)
    assert caught.value.code == "invalid_json"


def test_answers_are_ascii() -> None:
    response = json_response({"a": "é\ud800"})
    assert bytes(response.body).isascii()
    assert json.loads(response.body) == {"a": "é\ud800"}
    assert response.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_response({"a": float("nan")})


async def turn_of(service: Scripted) -> Turn:
    submission: Submission = await bridge_over(service).submit(Job(id="a", prompt=(1,)))
    return Turn(submission, prompt_tokens=1, thinking=False, end_think=2)


def test_every_event_is_taken() -> None:
    async def run() -> list[TurnEvent]:
        taken: list[TurnEvent] = []
        service = Scripted(Piece(id="a", text="Hi"), Ended(id="a", finish=Finish.END))
        await collect(request_of(), await turn_of(service), taken.append)
        assert not service.cancelled
        return taken

    last = asyncio.run(run())[-1]
    assert isinstance(last, TurnEnd)
    assert last.completion.content == "Hi"


def test_a_client_that_leaves_cancels() -> None:
    async def run() -> Scripted:
        service = Scripted(Piece(id="a", text="Hi"))
        with pytest.raises(CancelledJob, match="the client went away"):
            await collect(request_of({"type": "http.disconnect"}), await turn_of(service), lambda event: None)
        return service

    service = asyncio.run(run())
    assert service.was_cancelled.wait(SECONDS)
    assert service.cancelled == ["a"]


def test_an_error_of_the_taker_ends_the_turn() -> None:
    async def run() -> Scripted:
        service = Scripted(Piece(id="a", text="Hi"))

        def take(event: TurnEvent) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await collect(request_of(), await turn_of(service), take)
        return service

    assert asyncio.run(run()).cancelled == ["a"]
