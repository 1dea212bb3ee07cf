"""Buckets, rates by caller, bodies that are too large or too slow."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.server.limits import CALLER, MAX_CALLERS, BodyMiddleware, Bucket, RateLimits, RateMiddleware
from octavo.server.refusal import Refusal


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_evenly_and_can_be_overdrawn() -> None:
    clock = Clock()
    bucket = Bucket(60, clock)
    assert (bucket.left, bucket.wait()) == (60, 0.0)
    bucket.take(90)
    assert bucket.left == 0
    assert bucket.wait() == pytest.approx(31.0)
    clock.now += 31
    assert bucket.left == 1
    clock.now += 1e6
    assert bucket.left == 60


def test_requests_are_counted_by_caller() -> None:
    clock = Clock()
    limits = RateLimits(2, None, clock)
    assert [limits.enter("a")[1] for _ in range(3)] == [None, None, "requests"]
    assert limits.enter("b") == (0.0, None)
    assert limits.enter("a")[0] == pytest.approx(30.0)
    clock.now += 30
    assert limits.enter("a")[1] is None


def test_tokens_are_charged_afterwards() -> None:
    clock = Clock()
    limits = RateLimits(None, 1000, clock)
    assert limits.enter("a")[1] is None
    limits.charge("a", 1500)
    limits.charge(None, 10**9)
    wait, which = limits.enter("a")
    assert (which, wait) == ("tokens", pytest.approx(501 * 60 / 1000))
    assert limits.headers("a")["x-ratelimit-remaining-tokens"] == "0"


def test_no_limits_keep_nobody_out() -> None:
    limits = RateLimits(None, None)
    assert {limits.enter("a")[1] for _ in range(1000)} == {None}
    assert limits.headers("a") == {}


def test_callers_do_not_fill_the_memory() -> None:
    clock = Clock()
    limits = RateLimits(1, None, clock)
    assert limits.enter("first")[1] is None
    for number in range(MAX_CALLERS):
        limits.enter(str(number))
    assert limits.enter("first")[1] is None  # forgotten, so it begins anew
    assert limits.enter(str(MAX_CALLERS - 1))[1] == "requests"


def test_beyond_the_rate_is_429_with_headers() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(CALLER.get())
        await PlainTextResponse("fine")(scope, receive, send)

    layer: ASGIApp = RateMiddleware(app, limits=RateLimits(2, None, Clock()), open_paths=frozenset({"/health"}))

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"caller": "key 1"}
        await layer(scope, receive, send)

    client = TestClient(named)
    found = [client.get("/v1/models") for _ in range(3)]
    assert [one.status_code for one in found] == [200, 200, 429]
    assert [one.headers["x-ratelimit-remaining-requests"] for one in found] == ["1", "0", "0"]
    assert found[2].headers["retry-after"] == "30"
    assert found[2].json()["error"]["type"] == "rate_limit_error"
    assert client.get("/health").status_code == 200
    assert seen == ["key 1", "key 1", None]
    assert CALLER.get() is None


async def counted(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers how many bytes its body has."""
    try:
        length = sum([len(part) async for part in Request(scope, receive).stream()])
    except Refusal as error:
        await PlainTextResponse(error.detail, error.status_code, dict(error.headers or {}))(scope, receive, send)
    else:
        await PlainTextResponse(str(length))(scope, receive, send)


def drive(app: ASGIApp, parts: list[bytes], path: str = "/x", headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple:
    """Status of `app`'s answer and how many parts of the body it took."""
    taken, sent = 0, list[Message]()

    async def receive() -> Message:
        nonlocal taken
        if taken == len(parts):
            await asyncio.Event().wait()  # the client says nothing more
        taken += 1
        return {"type": "http.request", "body": parts[taken - 1], "more_body": taken < len(parts) or parts[-1] == b"-"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers), "state": {}}
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))
    return sent[0]["status"], taken, b"".join(one.get("body", b"") for one in sent).decode()


def layer(seconds: float = 5.0) -> BodyMiddleware:
    return BodyMiddleware(counted, max_bytes=100, max_upload_bytes=1000, seconds=seconds, spare_bytes=100)


def test_bodies_up_to_the_limit_pass() -> None:
    assert drive(layer(), [b"x" * 60, b"x" * 40]) == (200, 2, "100")


def test_a_stream_is_cut_off_where_the_limit_is() -> None:
    status, taken, text = drive(layer(), [b"x" * 60] * 1000)
    assert (status, taken) == (413, 2 + 2)  # a little more is thrown away, so that the client hears of it
    assert "larger than 100 bytes" in text
    assert drive(layer(), [b"x" * 60, b"x" * 41])[:2] == (413, 2)


def test_a_length_over_the_limit_is_refused_without_holding_it() -> None:
    length = (b"content-length", b"101")
    assert drive(layer(), [b"x" * 60] * 1000, headers=(length,))[:2] == (413, 2)
    assert drive(layer(), [b"x"], headers=(length, (b"expect", b"100-continue")))[:2] == (413, 0)
    assert drive(layer(seconds=0.05), [b"x", b"-"], headers=(length,))[:2] == (413, 2)


def test_forms_of_documents_have_their_own_limit() -> None:
    form = ((b"content-type", b"multipart/form-data; boundary=b"),)
    assert drive(layer(), [b"x" * 1000], "/v1/documents", form)[0] == 200
    assert drive(layer(), [b"x" * 1001], "/v1/documents", form)[0] == 413
    assert drive(layer(), [b"x" * 101], "/v1/chat/completions", form)[0] == 413
    assert drive(layer(), [b"x" * 101], "/v1/documents")[0] == 413


def test_a_body_that_stops_coming_is_408() -> None:
    status, taken, text = drive(layer(seconds=0.05), [b"x", b"-"])
    assert (status, taken) == (408, 2)
    assert "0.05 s" in text
