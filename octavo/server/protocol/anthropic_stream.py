"""A turn's events as Anthropic stream events, and as one message.

Covers: the order of blocks, the stop reason, usage, signatures. Does not cover: requests (`anthropic_request`), routes
and server-sent events (`anthropic`). A stream and a message come from the same encoder, so they agree; only a tool
call that was cut short is in the stream (as far as it came) and not in the message, which has no place for half an
object.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import uuid
from dataclasses import asdict
from typing import Any

from octavo.engine.answer import Finish
from octavo.engine.serving.events import Ended, JobUsage
from octavo.server.turn import TurnEnd, TurnEvent
from octavo.text.completion import ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallEnd, ToolCallStart

Wire = dict[str, Any]

_MAX_DIGITS = 4000  # of an integer; Python itself refuses to read more than 4300

_REASONS = {
    Finish.END: "end_turn",
    Finish.STOP: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.CONTEXT: "model_context_window_exceeded",
}


class MessageEncoder:
    """One answer: `start` and `feed` return stream events; `message` is the whole after the turn's end."""

    def __init__(self, *, id: str, model: str, prompt_tokens: int, parallel: bool = True) -> None:
        """`parallel`: more than one tool call may be given out; calls after the first are dropped otherwise."""
        self._id, self._model, self._prompt_tokens, self._parallel = id, model, prompt_tokens, parallel
        self._blocks: list[Wire] = []
        self._arguments: list[str] = []  # of the tool call that is open
        self._is_open = False
        self._incomplete: set[int] = set()
        self._end: TurnEnd | None = None

    def start(self) -> list[Wire]:
        """The event that comes before everything else; what is cached is known at the end only."""
        usage = _usage(JobUsage(prompt_tokens=self._prompt_tokens))
        return [{"type": "message_start", "message": self._message([], None, None, usage)}]

    def feed(self, event: TurnEvent) -> list[Wire]:
        """The stream events that one event of the turn stands for, maybe none."""
        if isinstance(event, ReasoningDelta):
            return [*self._enter("thinking"), *self._more("thinking", event.text)]
        if isinstance(event, ContentDelta):
            return [*self._enter("text"), *self._more("text", event.text)]
        if isinstance(event, ToolCallStart | ToolCallDelta | ToolCallEnd):
            return self._call(event) if self._parallel or event.index == 0 else []
        return self._finish(event) if isinstance(event, TurnEnd) else []

    @property
    def message(self) -> Wire:
        """The whole message; only after the turn's end."""
        assert self._end is not None, "the turn is not over"
        ended = self._end.ended
        whole = [block for place, block in enumerate(self._blocks) if place not in self._incomplete]
        made = self._message(whole, self._reason(), _stop(ended), _usage(ended.usage, self._end.reasoning_tokens))
        return made | _sources(ended)

    def _call(self, event: ToolCallStart | ToolCallDelta | ToolCallEnd) -> list[Wire]:
        if isinstance(event, ToolCallStart):
            return self._open({"type": "tool_use", "id": new_id("toolu"), "name": event.name, "input": {}})
        if isinstance(event, ToolCallDelta):
            self._arguments.append(event.arguments)
            return [self._delta({"type": "input_json_delta", "partial_json": event.arguments})]
        given = _object("".join(self._arguments)) if event.complete else None
        if given is None:
            self._incomplete.add(len(self._blocks) - 1)
        else:
            self._blocks[-1]["input"] = given
        return self._close()

    def _enter(self, kind: str) -> list[Wire]:
        if self._is_open and self._blocks[-1]["type"] == kind:
            return []
        signed = {"signature": ""} if kind == "thinking" else {}
        return self._open({"type": kind, kind: ""} | signed)

    def _more(self, kind: str, text: str) -> list[Wire]:
        self._blocks[-1][kind] += text
        return [self._delta({"type": f"{kind}_delta", kind: text})]

    def _open(self, block: Wire) -> list[Wire]:
        closing = self._close()
        self._blocks.append(block)
        self._arguments, self._is_open = [], True
        return [*closing, {"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": dict(block)}]

    def _close(self) -> list[Wire]:
        if not self._is_open:
            return []
        self._is_open = False
        block, made = self._blocks[-1], []
        if block["type"] == "thinking":
            block["signature"] = _signature(block["thinking"])
            made.append(self._delta({"type": "signature_delta", "signature": block["signature"]}))
        return [*made, {"type": "content_block_stop", "index": len(self._blocks) - 1}]

    def _delta(self, delta: Wire) -> Wire:
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}

    def _finish(self, end: TurnEnd) -> list[Wire]:
        self._end = end
        closing = self._close()
        delta = {"stop_reason": self._reason(), "stop_sequence": _stop(end.ended)}
        usage = _usage(end.ended.usage, end.reasoning_tokens)
        last = {"type": "message_delta", "delta": delta, "usage": usage} | _sources(end.ended)
        return [*closing, last, {"type": "message_stop"}]

    def _reason(self) -> str:
        assert self._end is not None, "the turn is not over"
        finish = self._end.ended.finish
        called = any(block["type"] == "tool_use" for block in self._blocks) and not self._incomplete
        return "tool_use" if called and finish is Finish.END else _REASONS[finish]

    def _message(self, content: list[Wire], reason: str | None, stop: str | None, usage: Wire) -> Wire:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stop,
            "usage": usage,
        }


def new_id(kind: str) -> str:
    """A fresh id such as msg_4f0c...; it tells nothing and cannot be guessed."""
    return f"{kind}_{uuid.uuid4().hex}"


def _usage(usage: JobUsage, reasoning_tokens: int = 0) -> Wire:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.answer_tokens,
        "output_tokens_details": {"thinking_tokens": reasoning_tokens},
    }


def _object(text: str) -> Wire | None:
    """The arguments of a call; None where Python cannot hold them. Numbers beyond its limits stay text."""

    def number(digits: str) -> int | float | str:
        if digits.lstrip("-").isdigit():
            return int(digits) if len(digits) <= _MAX_DIGITS else digits
        return float(digits) if math.isfinite(float(digits)) else digits

    try:
        return json.loads(text, parse_int=number, parse_float=number)
    except (ValueError, RecursionError):
        return None


def _stop(ended: Ended) -> str | None:
    return ended.stop if ended.finish is Finish.STOP else None


def _sources(ended: Ended) -> Wire:
    return {"sources": [asdict(source) for source in ended.sources]} if ended.sources else {}


def _signature(thinking: str) -> str:
    """Opaque to clients: a digest of the text, since the protocol wants one; nothing checks it when it comes back."""
    return base64.b64encode(hashlib.sha256(thinking.encode("utf-8", "surrogatepass")).digest()).decode()
