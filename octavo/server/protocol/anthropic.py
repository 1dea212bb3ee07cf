"""The Anthropic messages protocol: POST /v1/messages and /v1/messages/count_tokens.

Covers: routes, streaming, the header request-id. Does not cover: reading a body (`anthropic_request`), the shape of
answers (`anthropic_stream`), keys and limits (middlewares of `app`). Any anthropic-version is accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from octavo.config.errors import OctavoError
from octavo.engine.serving.events import Reading
from octavo.server.context import Context
from octavo.server.errors import Shape, as_event
from octavo.server.protocol.anthropic_request import MessagesRequest, read_request
from octavo.server.protocol.anthropic_stream import MessageEncoder, new_id
from octavo.server.protocol.described import MESSAGES, described
from octavo.server.protocol.exchange import collect, json_response, read_json
from octavo.server.refusal import answer, request_id
from octavo.server.stream import data, reading, sse
from octavo.server.turn import Turn

PING = data({"type": "ping"}, event="ping").encode()


def router(context: Context) -> APIRouter:
    """The routes over one server's parts."""
    routes = APIRouter(route_class=_Route, tags=["messages"])

    async def read(request: Request, *, counting: bool = False) -> MessagesRequest:
        asked = read_request(await read_json(request, context.bridge), counting=counting)
        context.check_model(asked.model)
        return asked

    @routes.post("/v1/messages", openapi_extra=described(MESSAGES))
    async def messages(request: Request) -> Response:
        asked = await read(request)
        turn = await context.turns.start(replace(asked.call, seconds=context.seconds))
        encoder = MessageEncoder(
            id=new_id("msg"), model=asked.model, prompt_tokens=turn.prompt_tokens, parallel=asked.parallel
        )
        if asked.stream:
            steps = _steps(turn, encoder, request_id(request.scope))
            return sse(steps, keep_alive_seconds=context.keep_alive_seconds, comment=PING)
        await collect(request, turn, encoder.feed)
        return json_response(encoder.message)

    @routes.post("/v1/messages/count_tokens", openapi_extra=described(MESSAGES))
    async def count_tokens(request: Request) -> Response:
        asked = await read(request, counting=True)
        return json_response({"input_tokens": await context.count(asked.call)})

    return routes


class _Route(APIRoute):
    """Puts the request's id where the protocol's clients look for it, into answers and errors alike."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handler(request)
            except (OctavoError, HTTPException) as error:
                response = answer(error, request.scope)
            response.headers["request-id"] = request_id(request.scope)
            return response

        return handled


async def _steps(turn: Turn, encoder: MessageEncoder, id: str) -> AsyncIterator[str]:
    """The encoded events of a stream; an error on the way becomes its last one."""
    try:
        for wire in encoder.start():
            yield data(wire, event=wire["type"])
        async for event in turn:
            if isinstance(event, Reading):
                yield reading(event.done, event.total)
            for wire in encoder.feed(event):
                yield data(wire, event=wire["type"])
    except Exception as error:
        yield as_event(error, Shape.ANTHROPIC, id)
    finally:
        turn.close()
