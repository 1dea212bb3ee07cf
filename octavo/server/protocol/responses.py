"""The OpenAI responses protocol: POST /v1/responses, counting its input, reading, cancelling and deleting a response.

Covers: routes, streaming, which conversation a response goes on from. Does not cover: reading a body
(`responses_request`), the shape of answers (`responses_stream`) and of inputs (`responses_items`), keeping them
(`responses_store`), keys and limits (middlewares of `app`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from octavo.engine.serving.events import Reading
from octavo.server.context import Context
from octavo.server.errors import CancelledJob
from octavo.server.protocol.described import RESPONSES, described
from octavo.server.protocol.exchange import collect, json_response, read_json
from octavo.server.protocol.fields import Fields
from octavo.server.protocol.responses_items import items_of, page_of
from octavo.server.protocol.responses_request import ResponsesRequest, read_request
from octavo.server.protocol.responses_store import ResponseStore
from octavo.server.protocol.responses_stream import ResponseEncoder, new_id
from octavo.server.refusal import request_id
from octavo.server.stream import data, reading, sse
from octavo.server.turn import Turn, TurnEvent


def router(context: Context, store: ResponseStore | None = None) -> APIRouter:
    """The routes over one server's parts; `store`: where responses are kept (default: a new one of usual bounds)."""
    routes = APIRouter(tags=["responses"])
    kept = store or ResponseStore()

    async def read(request: Request) -> ResponsesRequest:
        body = await read_json(request, context.bridge)
        before = Fields(body).text("previous_response_id")
        earlier = () if before is None else kept.conversation(before)
        asked = read_request(body, earlier=earlier, default_max_tokens=context.default_max_tokens)
        context.check_model(asked.model)
        return asked

    @routes.post("/v1/responses", openapi_extra=described(RESPONSES))
    async def create(request: Request) -> Response:
        asked = await read(request)
        turn = await context.turns.start(replace(asked.call, seconds=context.seconds))
        making = _Making(asked, turn, kept)
        if asked.stream:
            return sse(making.steps(request_id(request.scope)), keep_alive_seconds=context.keep_alive_seconds)
        return json_response(await making.whole(request))

    @routes.post("/v1/responses/input_tokens", openapi_extra=described(RESPONSES))
    async def input_tokens(request: Request) -> Response:
        counted = await context.count((await read(request)).call)
        return json_response({"object": "response.input_tokens", "input_tokens": counted})

    @routes.get("/v1/responses/{id}/input_items")
    async def input_items(request: Request, id: str) -> Response:
        stored = kept.find(id)
        return json_response(page_of(items_of(stored.history[: stored.inputs], id), request.query_params))

    @routes.get("/v1/responses/{id}")
    async def retrieve(id: str) -> Response:
        return json_response(kept.find(id).response)

    @routes.delete("/v1/responses/{id}")
    async def delete(id: str) -> Response:
        kept.delete(id)
        return json_response({"id": id, "object": "response.deleted", "deleted": True})

    @routes.post("/v1/responses/{id}/cancel")
    async def cancel(id: str) -> Response:
        return json_response(kept.cancel(id))

    return routes


class _Making:
    """A response under way, from its first event to its place in the store."""

    def __init__(self, asked: ResponsesRequest, turn: Turn, store: ResponseStore) -> None:
        self._asked, self._turn, self._store = asked, turn, store
        self._encoder = ResponseEncoder(
            id=new_id("resp"), created=int(time.time()), echo=asked.echo, parallel=asked.parallel,
            with_logprobs=asked.call.top_logprobs is not None,
        )  # fmt: skip
        self._is_over = self._is_cancelled = False

    async def whole(self, request: Request) -> dict[str, Any]:
        """The response object; raises what ends the turn, but for a cancel of the client's own."""
        self._begin()
        try:
            await collect(request, self._turn, self._take)
        except CancelledJob as error:
            if error.late and not self._is_cancelled:
                self._failed(error, request_id(request.scope))
            if not self._is_cancelled:
                raise
        except Exception as error:
            self._failed(error, request_id(request.scope))
            raise
        finally:
            self._end()
        return self._encoder.response

    async def steps(self, id: str) -> AsyncIterator[str]:
        """The encoded events of a stream; an error on the way becomes response.failed."""
        self._begin()
        try:
            for wire in self._encoder.start():
                yield _encoded(wire)
            async for event in self._turn:
                if isinstance(event, Reading):
                    yield reading(event.done, event.total)
                for wire in self._take(event):
                    yield _encoded(wire)
            if not self._is_over:  # cancelled between two events
                for wire in self._given_up():
                    yield _encoded(wire)
        except Exception as error:
            for wire in self._given_up() if self._is_cancelled else self._failed(error, id):
                yield _encoded(wire)
        finally:
            self._turn.close()
            self._end()

    def _begin(self) -> None:
        asked = self._asked
        self._store.begin(self._encoder.response, self._cancel, store=asked.store, history=asked.history)

    def _cancel(self) -> dict[str, Any]:
        self._is_cancelled = True
        self._turn.close()
        return self._encoder.response | {"status": "cancelled"}

    def _take(self, event: TurnEvent) -> list[dict[str, Any]]:
        made = self._encoder.feed(event)
        self._is_over = bool(made) and made[-1]["type"] in ("response.completed", "response.incomplete")
        return made

    def _failed(self, error: Exception, id: str) -> list[dict[str, Any]]:
        self._is_over = True
        return self._encoder.fail(error, id)

    def _given_up(self) -> list[dict[str, Any]]:
        self._is_over = True
        return self._encoder.cancel()

    def _end(self) -> None:
        """To the store, whatever became of it: a client that left has given it up."""
        if not self._is_over:
            self._given_up()
        self._store.end(self._encoder.response, (*self._asked.history, self._encoder.history))


def _encoded(wire: dict[str, Any]) -> str:
    return data(wire, event=wire["type"])
