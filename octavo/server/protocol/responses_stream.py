"""A turn's events as OpenAI response events, and as one response object.

Covers: items and their parts in order, sequence numbers, status, usage, how a response ends that was given up or
failed. Does not cover: requests (`responses_request`), routes (`responses`), keeping (`responses_store`). A stream and
a response come from the same encoder, so they agree.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Any

from octavo.engine.answer import Finish
from octavo.engine.serving.events import Ended, Token
from octavo.server.errors import fault
from octavo.server.protocol.common import token_logprob
from octavo.server.turn import TokensMade, TurnEnd, TurnEvent
from octavo.text.completion import ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallEnd, ToolCallStart

Wire = dict[str, Any]

_ERROR_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt", 404: "invalid_prompt"}
_DELTAS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}


class ResponseEncoder:
    """One response: `start`, `feed`, `fail` and `cancel` return stream events; `response` is the object so far."""

    def __init__(
        self, *, id: str, created: int, echo: Wire, parallel: bool = True, with_logprobs: bool = False
    ) -> None:  # fmt: skip
        """created: Unix seconds. echo: fields that repeat the request. parallel: more than one tool call may be given
        out; calls after the first are dropped otherwise. with_logprobs: text comes with those of its tokens."""
        self._parallel, self._with_logprobs = parallel, with_logprobs
        self._tokens: list[Token] = []  # of text that is not told yet
        self._number = 0
        self._output: list[Wire] = []
        self._is_open = False
        self._response: Wire = {
            "id": id,
            "object": "response",
            "created_at": created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": self._output,
            "usage": None,
        } | echo

    @property
    def response(self) -> Wire:
        """The response object as it is now."""
        return self._response | {"output": [_copy(item) for item in self._output]}

    @property
    def history(self) -> dict[str, Any]:
        """What was said as a message that a later turn goes on from; calls that were cut short are left out."""
        said: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": ""}
        calls = []
        for item in self._output:
            if item["type"] == "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                if item["status"] == "completed":
                    calls.append({"id": item["call_id"], "type": "function", "function": function})
            else:
                field = "reasoning_content" if item["type"] == "reasoning" else "content"
                said[field] += "".join(part["text"] for part in item["content"])
        return said | ({"tool_calls": calls} if calls else {})

    def start(self) -> list[Wire]:
        """The events that come before everything else."""
        return [self._whole("response.created"), self._whole("response.in_progress")]

    def feed(self, event: TurnEvent) -> list[Wire]:
        """The stream events that one event of the turn stands for, maybe none."""
        if isinstance(event, ReasoningDelta):
            return [*self._enter("reasoning"), *self._more(event.text)]
        if isinstance(event, TokensMade):
            self._tokens += event.tokens if self._with_logprobs and not event.reasoning else ()
            return []
        if isinstance(event, ContentDelta):
            return [*self._enter("message"), *self._more(event.text)]
        if isinstance(event, ToolCallStart | ToolCallDelta | ToolCallEnd):
            self._tokens.clear()  # of marks and arguments
            return self._call(event) if self._parallel or event.index == 0 else []
        return self._finish(event) if isinstance(event, TurnEnd) else []

    def fail(self, error: BaseException, request_id: str = "") -> list[Wire]:
        """The events that end a response which cannot go on."""
        found = fault(error, request_id)
        told = {"code": _ERROR_CODES.get(found.status, "server_error"), "message": found.message}
        return self._over("failed", "response.failed", {"error": told})

    def cancel(self) -> list[Wire]:
        """The events that end a response which was given up; the protocol has no event of its own for it."""
        return self._over("cancelled", "response.failed", {})

    def _over(self, status: str, kind: str, fields: Wire) -> list[Wire]:
        closing = self._close("incomplete")
        self._response |= {"status": status} | fields
        return [*closing, self._whole(kind)]

    def _finish(self, end: TurnEnd) -> list[Wire]:
        ended, usage = end.ended, end.ended.usage
        fields: Wire = {
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
                "output_tokens": usage.answer_tokens,
                "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
                "total_tokens": usage.prompt_tokens + usage.answer_tokens,
            }
        } | _sources(ended)
        if ended.finish in (Finish.LENGTH, Finish.CONTEXT):
            fields["incomplete_details"] = {"reason": "max_output_tokens"}
            return self._over("incomplete", "response.incomplete", fields)
        closing = self._close("completed")
        self._response |= {"status": "completed"} | fields
        return [*closing, self._whole("response.completed")]

    def _call(self, event: ToolCallStart | ToolCallDelta | ToolCallEnd) -> list[Wire]:
        if isinstance(event, ToolCallStart):
            call = {"call_id": new_id("call"), "name": event.name, "arguments": ""}
            return self._open({"id": new_id("fc"), "type": "function_call", "status": "in_progress"} | call)
        if isinstance(event, ToolCallDelta):
            self._output[-1]["arguments"] += event.arguments
            return [self._of_item("response.function_call_arguments.delta", delta=event.arguments)]
        return self._close("completed" if event.complete else "incomplete")

    def _enter(self, kind: str) -> list[Wire]:
        if self._is_open and self._output[-1]["type"] == kind:
            return []
        if kind == "reasoning":
            item, part = {"id": new_id("rs"), "summary": []}, {"type": "reasoning_text", "text": ""}
        else:
            item = {"id": new_id("msg"), "role": "assistant"}
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        opening = self._open({"type": kind, "status": "in_progress", "content": []} | item)
        self._output[-1]["content"].append(part)
        return [*opening, self._of_item("response.content_part.added", content_index=0, part=_part(part))]

    def _more(self, text: str) -> list[Wire]:
        item = self._output[-1]
        item["content"][0]["text"] += text
        more = {"logprobs": self._told()} if item["type"] == "message" else {}
        return [self._of_item(f"{_DELTAS[item['type']]}.delta", content_index=0, delta=text, **more)]

    def _open(self, item: Wire) -> list[Wire]:
        closing = self._close("completed")
        self._output.append(item)
        self._is_open = True
        return [*closing, self._event("response.output_item.added", output_index=self._last, item=_copy(item))]

    def _close(self, status: str) -> list[Wire]:
        """End the open item, if there is one."""
        if not self._is_open:
            return []
        self._is_open = False
        item = self._output[-1]
        item["status"] = status
        if item["type"] == "function_call":
            named = {"name": item["name"], "arguments": item["arguments"]}
            done = [self._of_item("response.function_call_arguments.done", **named)]
        else:
            part = item["content"][0]
            if item["type"] == "message":
                self._told()
            more = {"logprobs": list(part["logprobs"])} if item["type"] == "message" else {}
            done = [
                self._of_item(f"{_DELTAS[item['type']]}.done", content_index=0, text=part["text"], **more),
                self._of_item("response.content_part.done", content_index=0, part=_part(part)),
            ]
        return [*done, self._event("response.output_item.done", output_index=self._last, item=_copy(item))]

    def _told(self) -> list[Wire]:
        """The log-probabilities of the tokens since the last such call, which the open message has from now on."""
        told = [token_logprob(token) for token in self._tokens]
        self._tokens.clear()
        self._output[-1]["content"][0]["logprobs"] += told
        return told

    @property
    def _last(self) -> int:
        return len(self._output) - 1

    def _of_item(self, kind: str, **fields: Any) -> Wire:
        return self._event(kind, item_id=self._output[-1]["id"], output_index=self._last, **fields)

    def _whole(self, kind: str) -> Wire:
        return self._event(kind, response=self.response)

    def _event(self, kind: str, **fields: Any) -> Wire:
        made = {"type": kind, "sequence_number": self._number} | fields
        self._number += 1
        return made


def new_id(kind: str) -> str:
    """A fresh id such as resp_4f0c...; it tells nothing and cannot be guessed."""
    return f"{kind}_{uuid.uuid4().hex}"


def _copy(item: Wire) -> Wire:
    """An item as it is now, whatever is added to it later."""
    return item | ({"content": [_part(part) for part in item["content"]]} if "content" in item else {})


def _part(part: Wire) -> Wire:
    return part | ({"logprobs": list(part["logprobs"])} if "logprobs" in part else {})


def _sources(ended: Ended) -> Wire:
    return {"sources": [asdict(source) for source in ended.sources]} if ended.sources else {}
