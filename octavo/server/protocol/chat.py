"""The OpenAI chat protocol: POST /v1/chat/completions.

Covers: the route, an answer as one body or as a stream. Does not cover: the request (`chat_request`), turns (`turn`),
whether called tools exist, which their owner has to check.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from octavo.engine.answer import Finish
from octavo.engine.serving.events import Reading, Scored, Token
from octavo.server.context import Context
from octavo.server.errors import Shape, as_event
from octavo.server.protocol.chat_request import ChatBody, chat_call
from octavo.server.protocol.common import attended, finish_reason, parsed, prompt_logprobs, token_logprob, usage
from octavo.server.protocol.described import described
from octavo.server.refusal import request_id
from octavo.server.stream import DONE, data, reading, sse
from octavo.server.turn import TokensMade, Turn, TurnEnd, TurnEvent, merged
from octavo.text.completion import ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallStart


@dataclass(slots=True, kw_only=True)
class Choice:
    """One answer while it arrives: `take` gives the deltas that an event stands for, `whole` the answer at its end."""

    index: int
    parallel: bool = True
    with_logprobs: bool = False
    end: TurnEnd | None = None
    prompt: tuple[Token, ...] | None = None
    _ids: dict[int, str] = field(default_factory=dict)
    _tokens: list[Token] = field(default_factory=list)
    _sent: int = 0

    def take(self, event: TurnEvent) -> list[dict[str, Any]]:
        """Choices of stream chunks; the last one has the finish reason."""
        if isinstance(event, Scored):
            self.prompt = event.tokens
        elif isinstance(event, TokensMade):
            if self.with_logprobs and not event.reasoning:
                self._tokens += event.tokens
        elif isinstance(event, ReasoningDelta):
            return [self._chunk({"reasoning_content": event.text, "reasoning": event.text})]
        elif isinstance(event, ContentDelta):
            return [self._chunk({"content": event.text}, certain=True)]
        elif isinstance(event, ToolCallStart) and self._counts(event.index):
            self._ids[event.index] = f"call_{uuid4().hex[:24]}"
            function = {"name": event.name, "arguments": ""}
            call = {"index": event.index, "id": self._ids[event.index], "type": "function", "function": function}
            return [self._chunk({"tool_calls": [call]})]
        elif isinstance(event, ToolCallDelta) and self._counts(event.index):
            call = {"index": event.index, "function": {"arguments": event.arguments}}
            return [self._chunk({"tool_calls": [call]})]
        elif isinstance(event, TurnEnd):
            self.end = event
            return [self._chunk({}, certain=True) | {"finish_reason": self.finish_reason} | self._sources()]
        return []

    @property
    def whole(self) -> dict[str, Any]:
        """The choice of a body. A call that was cut short is in streams only: nobody could run it."""
        assert self.end is not None, "the turn is not over"
        said, calls = self.end.completion, self._calls()
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said.content or (None if calls else ""),
            "refusal": None,
        }
        if said.reasoning:
            message |= {"reasoning_content": said.reasoning, "reasoning": said.reasoning}
        if calls:
            message["tool_calls"] = calls
        told = {"content": [token_logprob(token) for token in self._tokens], "refusal": None}
        return {
            "index": self.index,
            "message": message | self._sources(),
            "logprobs": told if self.with_logprobs else None,
            "finish_reason": self.finish_reason,
        }

    @property
    def finish_reason(self) -> str:
        """Why it ended: stop, length or tool_calls."""
        assert self.end is not None, "the turn is not over"
        finish = self.end.ended.finish
        called = bool(self._calls()) and finish in (Finish.END, Finish.STOP)
        return "tool_calls" if called else finish_reason(finish)

    def _counts(self, index: int) -> bool:
        return self.parallel or index == 0

    def _calls(self) -> list[dict[str, Any]]:
        assert self.end is not None, "the turn is not over"
        return [
            {"id": self._ids[index], "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for index, call in enumerate(self.end.completion.tool_calls)
            if call.complete and self._counts(index)
        ]

    def _sources(self) -> dict[str, Any]:
        if self.end is None:
            return {}
        ended = self.end.ended
        found: dict[str, Any] = {"sources": [asdict(source) for source in ended.sources]} if ended.sources else {}
        return found if ended.map is None else found | {"map": ended.map.to_dict()}

    def _chunk(self, delta: dict[str, Any], *, certain: bool = False) -> dict[str, Any]:
        """`certain`: the log-probabilities of the tokens since the last such chunk go with it."""
        told = None
        if certain and self._sent < len(self._tokens):
            told = {"content": [token_logprob(token) for token in self._tokens[self._sent :]], "refusal": None}
            self._sent = len(self._tokens)
        return {"index": self.index, "delta": delta, "logprobs": told, "finish_reason": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A request on its way: what all its chunks have in common, its turns and their choices."""

    head: dict[str, Any]
    turns: Sequence[Turn]
    choices: Sequence[Choice]
    wants_usage: bool

    async def body(self) -> dict[str, Any]:
        """The whole answer."""
        async with aclosing(merged(self.turns)) as events:
            async for place, event in events:
                self.choices[place].take(event)
        whole = [choice.whole for choice in self.choices]
        told = self.head | {"object": "chat.completion", "choices": whole, "usage": self._usage()}
        prompt = self.choices[0].prompt
        return told if prompt is None else told | {"prompt_logprobs": prompt_logprobs(prompt)}

    async def stream(self, id: str) -> AsyncGenerator[str, None]:
        """The answer's encoded events; an error on the way becomes the last one."""
        nothing = {"usage": None} if self.wants_usage else {}
        head = self.head | {"object": "chat.completion.chunk"}
        try:
            for choice in self.choices:
                first = {"role": "assistant", "content": ""}
                opening = {"index": choice.index, "delta": first, "logprobs": None, "finish_reason": None}
                yield data(head | {"choices": [opening]} | nothing)
            async with aclosing(merged(self.turns)) as events:
                async for place, event in events:
                    if isinstance(event, Reading):
                        yield reading(event.done, event.total)
                    for made in self.choices[place].take(event):
                        yield data(head | {"choices": [made]} | nothing)
            if self.wants_usage:
                yield data(head | {"choices": [], "usage": self._usage()})
            yield DONE
        except Exception as error:
            yield as_event(error, Shape.OPENAI, id)
        finally:
            for turn in self.turns:
                turn.close()

    def _usage(self) -> dict[str, Any]:
        ends = [choice.end for choice in self.choices if choice.end is not None]
        return usage([end.ended for end in ends], reasoning_tokens=sum(end.reasoning_tokens for end in ends))


def router(context: Context) -> APIRouter:
    """The route over one server's parts."""
    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/chat/completions", response_model=None, openapi_extra=described(ChatBody))
    async def chat(http: HttpRequest) -> Response:
        """The next turn of a conversation."""
        asked = await parsed(http, ChatBody, context)
        context.check_model(asked.model)
        call = chat_call(asked, context)
        turns = await context.turns.start_all(call, asked.count)
        answering = Answering(
            head={
                "id": f"chatcmpl-{uuid4().hex}",
                "created": int(time.time()),
                "model": asked.model,
                "system_fingerprint": context.fingerprint,
            },
            turns=turns,
            choices=[
                Choice(
                    index=place,
                    parallel=asked.parallel_tool_calls is not False,
                    with_logprobs=call.top_logprobs is not None,
                )
                for place in range(len(turns))
            ],
            wants_usage=asked.wants_usage,
        )
        if asked.stream:
            return sse(answering.stream(request_id(http.scope)), keep_alive_seconds=context.keep_alive_seconds)
        return JSONResponse(await attended(http, answering.body()))

    return routes
