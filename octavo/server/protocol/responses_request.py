"""An OpenAI responses request as a chat turn.

Covers: the body of POST /v1/responses: input items, instructions, what an earlier response adds, function tools, text
formats, reasoning effort, sampling, metadata, and the extensions `document`, `quote`, `sources` and `cache_salt`. Does
not cover: routes (`responses`), the answer (`responses_stream`), keeping responses (`responses_store`). Accepted
without effect: user, safety_identifier, prompt_cache_key, service_tier, stream_options, reasoning.summary,
text.verbosity, the strict of a tool, and `include` other than log-probabilities, which `top_logprobs` asks for as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.engine.request import Request
from octavo.engine.serving.job import MAX_TOP_LOGPROBS, Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.common import EFFORTS
from octavo.server.protocol.fields import Fields, shown
from octavo.server.protocol.tool_choice import responses_choice
from octavo.server.turn import ChatCall
from octavo.text.message import to_json
from octavo.text.template import Effort

DEFAULT_TEMPERATURE = 1.0
MAX_METADATA = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
_UNSUPPORTED = {
    "background": "a response is made while its request is open",
    "conversation": "use previous_response_id",
    "prompt": "there are no stored prompts",
    "context_management": "a conversation is never shortened",
}
_LOGPROBS = "message.output_text.logprobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest:
    """A checked request. history: the conversation without instructions, for a later response to go on from. echo:
    fields of the answer that repeat the request. parallel: whether the answer may hold more than one call."""

    call: ChatCall
    history: tuple[dict[str, Any], ...]
    model: str
    stream: bool
    store: bool
    parallel: bool
    echo: dict[str, Any]


def read_request(
    body: object, *, earlier: Sequence[dict[str, Any]] = (), default_max_tokens: int = Request().max_tokens
) -> ResponsesRequest:
    """Check a body; `earlier`: the conversation of its previous_response_id. Raises FieldError, LimitError."""
    fields = Fields(body)
    for name, reason in _UNSUPPORTED.items():
        fields.unsupported(name, reason)
    fields.choice("truncation", ("disabled",), "disabled")
    history = (*earlier, *_input(fields))
    if history[-1]["role"] == "assistant":
        why = "input ends with items of the assistant; a message or a function_call_output must be last"
        raise FieldError(why, param="input")
    instructions = fields.text("instructions")
    max_tokens = fields.whole("max_output_tokens")
    document = fields.text("document")
    effort = _effort(fields)
    schema, form = _text_format(fields)
    tools = [_tool(tool) for tool in fields.objects("tools")] or None
    choice = responses_choice(fields.raw("tool_choice"))
    parallel = fields.flag("parallel_tool_calls", True)
    call = ChatCall(
        messages=_with_system(instructions, history),
        request=Request(
            max_tokens=default_max_tokens if max_tokens is None else max_tokens,
            temperature=fields.raw("temperature") if fields.has("temperature") else DEFAULT_TEMPERATURE,
            top_p=fields.raw("top_p") if fields.has("top_p") else 1.0,
        ),
        tools=tools,
        tool_choice=choice.mode,
        response_format=schema,
        grammar=choice.grammar(tools, parallel=parallel) or form,  # a forced call has no content that could have a form
        thinking=effort is not None,
        effort=effort or Effort.LOW,
        document=document,
        sources=fields.flag("sources", document is not None),
        quote=fields.flag("quote") if fields.has("quote") else None,
        top_logprobs=_top_logprobs(fields),
        salt=fields.text("cache_salt") or "",
    )
    return ResponsesRequest(
        call=call,
        history=history,
        model=fields.needed_text("model"),
        stream=fields.flag("stream"),
        store=fields.flag("store", True),
        parallel=parallel,
        echo=_echo(fields, call, max_tokens),
    )


def _echo(fields: Fields, call: ChatCall, max_tokens: int | None) -> dict[str, Any]:
    reasoning = fields.object("reasoning") or Fields({})
    return {
        "background": False,
        "instructions": fields.text("instructions"),
        "max_output_tokens": max_tokens,
        "max_tool_calls": None,
        "metadata": _metadata(fields),
        "model": fields.needed_text("model"),
        "parallel_tool_calls": fields.flag("parallel_tool_calls", True),
        "previous_response_id": fields.text("previous_response_id"),
        "reasoning": {"effort": reasoning.raw("effort"), "summary": None},
        "service_tier": "default",
        "store": fields.flag("store", True),
        "temperature": call.request.temperature,
        "text": {"format": {"type": "text"}} | (fields.object("text") or Fields({})).value,
        "tool_choice": fields.raw("tool_choice") or "auto",
        "tools": [_echoed_tool(tool) for tool in fields.objects("tools")],
        "top_logprobs": call.top_logprobs or 0,
        "top_p": call.request.top_p,
        "truncation": "disabled",
    }


def _top_logprobs(fields: Fields) -> int | None:
    """How many alternatives each token of the text comes with; None where `include` does not ask for them."""
    top, included = fields.whole("top_logprobs", least=0) or 0, _LOGPROBS in fields.texts("include")
    if top > MAX_TOP_LOGPROBS:
        raise FieldError(f"top_logprobs is {top}; it must be from 0 to {MAX_TOP_LOGPROBS}", param="top_logprobs")
    return top if included or top else None


def _echoed_tool(tool: Fields) -> dict[str, Any]:
    return {"description": None, "parameters": None, "strict": False} | tool.value


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.object("metadata")
    if given is None:
        return {}
    if len(given.value) > MAX_METADATA:
        why = f"metadata has {len(given.value)} keys; it may have {MAX_METADATA}"
        raise FieldError(why, param="metadata")
    for key in given.value:
        if len(key) > MAX_METADATA_KEY or len(given.needed_text(key)) > MAX_METADATA_VALUE:
            limits = f"a key may have {MAX_METADATA_KEY} characters, a value {MAX_METADATA_VALUE}"
            raise FieldError(f"metadata {shown(key)} is too long; {limits}", param="metadata")
    return given.value


def _effort(fields: Fields) -> Effort | None:
    """How hard to think, None for not at all."""
    reasoning = fields.object("reasoning")
    if reasoning is None:
        return None
    return EFFORTS[reasoning.choice("effort", tuple(EFFORTS), "none")]


def _text_format(fields: Fields) -> tuple[dict[str, Any] | None, Grammar | None]:
    """The schema for the prompt and the grammar for the answer."""
    text = fields.object("text")
    form = None if text is None else text.object("format")
    if form is None:
        return None, None
    kind = form.choice("type", ("text", "json_object", "json_schema"))
    if kind == "text":
        return None, None
    if kind == "json_object":
        return None, Grammar(kind=GrammarKind.JSON)
    schema = form.needed_object("schema").value
    return schema, Grammar(kind=GrammarKind.SCHEMA, source=to_json(schema))


def _tool(tool: Fields) -> dict[str, Any]:
    if tool.raw("type") != "function":
        raise tool.refusal("type", "'function', a tool that the client runs")
    function: dict[str, Any] = {"name": tool.needed_text("name")}
    if tool.has("description"):
        function["description"] = tool.needed_text("description")
    parameters = tool.object("parameters")
    return {"type": "function", "function": function | {"parameters": parameters.value if parameters else {}}}


def _with_system(instructions: str | None, history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Instructions and the system messages that begin the conversation as one; later ones speak as developer."""
    leading = next((at for at, message in enumerate(history) if message["role"] != "system"), len(history))
    parts = [{"type": "text", "text": instructions}] if instructions else []
    parts += [part for message in history[:leading] for part in message["content"] if part["text"]]
    made: list[dict[str, Any]] = [{"role": "system", "content": parts}] if parts else []
    for message in history[leading:]:
        made.append(message | {"role": "developer"} if message["role"] == "system" else message)
    return made


def _input(fields: Fields) -> list[dict[str, Any]]:
    """The input items as messages; neighbouring items of the assistant make one."""
    given = fields.raw("input")
    if isinstance(given, str):
        return [{"role": "user", "content": [{"type": "text", "text": given}]}]
    items = fields.objects("input")
    if not items:
        raise fields.refusal("input", "a string or an array of at least one item")
    made: list[dict[str, Any]] = []
    for item in items:
        message = _item(item)
        joined = _joined(made[-1], message) if made else None
        if joined is None:
            made.append(message)
        else:
            made[-1] = joined
    return made


def _item(item: Fields) -> dict[str, Any]:
    kind = item.choice("type", ("message", "function_call", "function_call_output", "reasoning"), "message")
    if kind == "message":
        role = item.choice("role", ("user", "assistant", "system", "developer"))
        return {"role": "system" if role == "developer" else role, "content": _parts(item, "content")}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.needed_text("call_id"), "content": _parts(item, "output")}
    if kind == "function_call":
        function = {"name": item.needed_text("name"), "arguments": item.needed_text("arguments")}
        call = {"id": item.needed_text("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    texts = [part.needed_text("text") for part in item.objects("content")]
    return {"role": "assistant", "content": "", "reasoning_content": "".join(texts)}


def _parts(item: Fields, name: str) -> list[dict[str, str]]:
    """A string, or an array of text parts."""
    value = item.raw(name)
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None:
        raise item.refusal(name, "a string or an array of parts")
    parts = item.objects(name)
    for part in parts:
        part.choice("type", ("input_text", "output_text"))
    return [{"type": "text", "text": part.needed_text("text")} for part in parts]


def _joined(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any] | None:
    """One turn of two messages of the assistant: reasoning, then text, then calls. None where they are two turns."""
    if before["role"] != "assistant" or after["role"] != "assistant":
        return None
    if "reasoning_content" in after or (after["content"] and (before["content"] or before.get("tool_calls"))):
        return None
    calls = [*before.get("tool_calls", ()), *after.get("tool_calls", ())]
    return before | {"content": before["content"] or after["content"]} | ({"tool_calls": calls} if calls else {})
