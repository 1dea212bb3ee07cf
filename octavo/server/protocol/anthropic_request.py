"""An Anthropic messages request as a chat turn.

Covers: the body of POST /v1/messages and /v1/messages/count_tokens: system, messages and their blocks, tools,
thinking, structured output, sampling, and the extensions `document`, `quote`, `sources` and `cache_salt`. Does not
cover: routes (`anthropic`), the answer (`anthropic_stream`). Accepted without effect: metadata, service_tier,
cache_control (equal beginnings are shared anyway), signatures of thinking, is_error of a tool result, the size of a
thinking budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from octavo.engine.request import Request
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.common import EFFORTS, MAX_STOP_LEN, MAX_STOPS
from octavo.server.protocol.fields import Fields
from octavo.server.protocol.tool_choice import anthropic_choice
from octavo.server.turn import ChatCall
from octavo.text.message import to_json
from octavo.text.template import Effort

DEFAULT_TEMPERATURE = 1.0
_EFFORTS = {word: effort for word, effort in EFFORTS.items() if effort is not None}  # thinking has a field of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesRequest:
    """A checked request. parallel: whether the answer may hold more than one tool call."""

    call: ChatCall
    model: str
    stream: bool
    parallel: bool


def read_request(body: object, *, counting: bool = False) -> MessagesRequest:
    """Check a body; raises FieldError, LimitError and UsageError. `counting`: max_tokens may be missing."""
    fields = Fields(body)
    max_tokens = fields.whole("max_tokens")
    if max_tokens is None:
        if not counting:
            raise fields.refusal("max_tokens", "an integer from 1")
        max_tokens = 1
    thinking = _thinking(fields, max_tokens, counting=counting)
    effort, schema = _output(fields)
    choice, parallel = anthropic_choice(fields)
    tools = [_tool(tool) for tool in fields.objects("tools")] or None
    form = None if schema is None else Grammar(kind=GrammarKind.SCHEMA, source=to_json(schema))
    messages = _system(fields) + _messages(fields, thinking=thinking)
    document = fields.text("document")
    request = Request(
        max_tokens=max_tokens,
        temperature=fields.raw("temperature") if fields.has("temperature") else DEFAULT_TEMPERATURE,
        top_p=fields.raw("top_p") if fields.has("top_p") else 1.0,
        top_k=fields.raw("top_k"),
        stop=_stops(fields),
    )
    call = ChatCall(
        messages=messages,
        request=request,
        tools=tools,
        tool_choice=choice.mode,
        response_format=schema,
        grammar=choice.grammar(tools, parallel=parallel) or form,  # a forced call has no content that could have a form
        thinking=thinking,
        effort=effort,
        document=document,
        sources=fields.flag("sources", document is not None),
        quote=fields.flag("quote") if fields.has("quote") else None,
        salt=fields.text("cache_salt") or "",
    )
    return MessagesRequest(
        call=call, model=fields.needed_text("model"), stream=fields.flag("stream"), parallel=parallel
    )


def _stops(fields: Fields) -> tuple[str, ...]:
    stops = fields.texts("stop_sequences")
    if len(stops) > MAX_STOPS or max(map(len, stops), default=0) > MAX_STOP_LEN:
        raise fields.refusal("stop_sequences", f"at most {MAX_STOPS} strings of at most {MAX_STOP_LEN} characters")
    return stops


def _thinking(fields: Fields, max_tokens: int, *, counting: bool) -> bool:
    thinking = fields.object("thinking")
    if thinking is None:
        return False
    kind = thinking.choice("type", ("enabled", "adaptive", "disabled"))
    if kind == "enabled":
        budget = thinking.whole("budget_tokens")
        if budget is None:
            raise thinking.refusal("budget_tokens", "an integer from 1")
        if budget >= max_tokens and not counting:
            raise thinking.refusal("budget_tokens", f"below max_tokens, which is {max_tokens}")
    return kind != "disabled"


def _output(fields: Fields) -> tuple[Effort, dict[str, Any] | None]:
    """The effort and the schema of `output_config`."""
    output = fields.object("output_config")
    if output is None:
        return Effort.LOW, None
    effort = _EFFORTS[output.choice("effort", tuple(_EFFORTS), "low")]
    form = output.object("format")
    if form is None:
        return effort, None
    form.choice("type", ("json_schema",))
    return effort, form.needed_object("schema").value


def _tool(tool: Fields) -> dict[str, Any]:
    if tool.has("type") and tool.raw("type") != "custom":
        raise tool.refusal("type", "'custom', a tool that the client runs")
    schema = tool.needed_object("input_schema").value
    function = {"name": tool.needed_text("name"), "parameters": schema}
    if tool.has("description"):
        function["description"] = tool.needed_text("description")
    return {"type": "function", "function": function}


def _system(fields: Fields) -> list[dict[str, Any]]:
    value = fields.raw("system")
    if value is None or isinstance(value, str):
        return [{"role": "system", "content": value}] if value else []
    parts = [_text_part(block) for block in fields.objects("system")]
    return [{"role": "system", "content": parts}] if parts else []


def _messages(fields: Fields, *, thinking: bool) -> list[dict[str, Any]]:
    given = fields.objects("messages")
    if not given:
        raise fields.refusal("messages", "an array of at least one message")
    made: list[dict[str, Any]] = []
    for message in given:
        role = message.choice("role", ("user", "assistant"))
        made += _user(message) if role == "user" else [_assistant(message)]
    last = made[-1]
    if last["role"] == "assistant":
        where = given[-1].where
        if last.get("tool_calls"):
            raise FieldError(f"{where} ends with a tool_use; a tool_result must follow it", param=where)
        if thinking:
            raise given[-1].refusal("role", "'user' in the last message, since thinking is enabled")
        last["prefix"] = True  # the answer goes on from it
    return made


def _blocks(message: Fields) -> Iterable[Fields]:
    """The content blocks of a message; a string is one text block."""
    content = message.raw("content")
    if isinstance(content, str):
        return [Fields({"type": "text", "text": content}, message.path("content"))]
    if content is None:
        raise message.refusal("content", "a string or an array of blocks")
    return message.objects("content")


def _user(message: Fields) -> list[dict[str, Any]]:
    """The messages that stand for one of the user: tool results have their own."""
    made: list[dict[str, Any]] = []
    for block in _blocks(message):
        kind = block.choice("type", ("text", "tool_result"))
        if kind == "tool_result":
            made.append({"role": "tool", "tool_call_id": block.needed_text("tool_use_id"), "content": _result(block)})
        elif made and made[-1]["role"] == "user":
            made[-1]["content"].append(_text_part(block))
        else:
            made.append({"role": "user", "content": [_text_part(block)]})
    if not made:
        where = message.path("content")
        raise FieldError(f"{where} is empty; a user message needs at least one block", param=where)
    return made


def _result(block: Fields) -> str | list[dict[str, str]]:
    content = block.raw("content")
    if content is None or isinstance(content, str):
        return content or ""
    return [_text_part(part) for part in block.objects("content")]


def _assistant(message: Fields) -> dict[str, Any]:
    texts: list[dict[str, str]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for block in _blocks(message):
        kind = block.choice("type", ("text", "tool_use", "thinking"))
        if kind == "text":
            texts.append(_text_part(block))
        elif kind == "thinking":
            thoughts.append(block.needed_text("thinking"))
        else:
            arguments = to_json(block.needed_object("input").value)
            function = {"name": block.needed_text("name"), "arguments": arguments}
            calls.append({"id": block.needed_text("id"), "type": "function", "function": function})
    made: dict[str, Any] = {"role": "assistant", "content": texts or "", "reasoning_content": "".join(thoughts)}
    return made | ({"tool_calls": calls} if calls else {})


def _text_part(block: Fields) -> dict[str, str]:
    block.choice("type", ("text",))
    return {"type": "text", "text": block.needed_text("text")}
