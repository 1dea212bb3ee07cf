"""Phases, counting, draining."""

from __future__ import annotations

import asyncio

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from octavo.server.lifecycle import DrainMiddleware, Lifecycle, Phase


def test_requests_pass_only_while_ready() -> None:
    life = Lifecycle()
    app = DrainMiddleware(PlainTextResponse("fine"), lifecycle=life, open_paths=frozenset({"/health"}))
    client = TestClient(app)
    found = []
    for change in (lambda: None, life.ready, life.drain, life.end):
        change()
        found.append((client.get("/v1/models").status_code, client.get("/health").status_code))
    assert found == [(503, 200), (200, 200), (503, 200), (503, 200)]
    refused = client.get("/v1/models")
    assert refused.headers["retry-after"] == "5"
    assert refused.json()["error"]["type"] == "overloaded_error"
    assert life.under_way == 0


def test_the_end_is_not_left_again() -> None:
    life = Lifecycle()
    life.end()
    life.drain()
    assert life.phase is Phase.OVER


def test_waiting_ends_with_the_last_request() -> None:
    async def story() -> list[bool]:
        life = Lifecycle()
        found = [await life.wait_idle(5)]
        life.enter()
        life.enter()
        found.append(await life.wait_idle(0.01))
        waiting = asyncio.create_task(life.wait_idle(5))
        life.leave()
        await asyncio.sleep(0)
        found.append(waiting.done())
        life.leave()
        return [*found, await waiting]

    assert asyncio.run(story()) == [True, False, False, True]


def test_a_request_that_fails_is_not_under_way_any_more() -> None:
    async def fail(scope: object, receive: object, send: object) -> None:
        raise ValueError("no")

    life = Lifecycle()
    life.ready()
    client = TestClient(
        DrainMiddleware(fail, lifecycle=life, open_paths=frozenset()), raise_server_exceptions=False
    )
    assert client.get("/x").status_code == 500
    assert life.under_way == 0
