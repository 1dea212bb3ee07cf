"""The body of a chat completion, and the call that it stands for.

Covers: its fields, the several ways in which clients ask for reasoning and for JSON, what is refused and why. Does not
cover: the answer (`chat`), fields shared with completions (`common`), the texts of messages (`octavo.text.message`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from octavo.engine.serving.job import MAX_TOP_LOGPROBS, Grammar, GrammarKind
from octavo.server.context import Context
from octavo.server.errors import FieldError
from octavo.server.protocol.common import (
    EFFORTS,
    Body,
    Checked,
    Sampling,
    check_count,
    check_neutral,
    check_prompt_logprobs,
    grammar_of,
    sampling_request,
    schema_grammar,
)
from octavo.server.protocol.tool_choice import chat_choice
from octavo.server.turn import ChatCall
from octavo.text.template import Effort

_NAME = re.compile(r"[\w.:/-]{1,128}")
_THINKING = {"enabled": True, "disabled": False}


class ChatMessage(Body):
    """One message; what else it holds is kept, and checked when the prompt is written."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | Annotated[list[dict[str, Any]], Checked] | None = None
    tool_calls: Annotated[list[dict[str, Any]], Checked] | None = None
    tools: Annotated[list[dict[str, Any]], Checked] | None = None

    def plain(self) -> dict[str, Any]:
        """The message as `octavo.text.message` takes it: `reasoning` is another name of `reasoning_content`."""
        given = self.model_dump(exclude_unset=True)
        if not given.get("reasoning_content") and isinstance(given.get("reasoning"), str):
            given["reasoning_content"] = given["reasoning"]
        return given


class Thinking(Body):
    """Whether the model reasons first, in DeepSeek's words: `enabled` or `disabled`."""

    type: str


class TemplateOptions(Body):
    """Whether and how long the model reasons first, in vLLM's words."""

    thinking: bool | None = None
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None


class JsonSchema(Body):
    """A schema with a name that nothing depends on."""

    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(Body):
    """The form of the answer: text, json_object or json_schema."""

    type: str
    json_schema: JsonSchema | None = None


class ChatBody(Sampling):
    """A whole request."""

    messages: Annotated[list[ChatMessage], Checked]
    tools: Annotated[list[dict[str, Any]], Checked] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    thinking: Thinking | None = None
    chat_template_kwargs: TemplateOptions | None = None


def chat_call(asked: ChatBody, context: Context) -> ChatCall:
    """What the model is asked. Raises FieldError, LimitError, UsageError."""
    check_neutral(asked)
    check_count(asked, context)
    check_prompt_logprobs(asked)
    if asked.functions:
        raise FieldError("functions is not supported: give tools", param="functions", code="unsupported")
    thinking, effort = _reasoning(asked)
    limits = (asked.max_completion_tokens, asked.max_tokens, context.default_max_tokens)
    schema, tools, choice = _schema(asked.response_format), _tools(asked.tools) or None, chat_choice(asked.tool_choice)
    forced = choice.grammar(tools, parallel=asked.parallel_tool_calls is not False)
    form = None if forced else _format_grammar(asked.response_format, schema)  # it speaks of content, which calls lack
    return ChatCall(
        messages=[message.plain() for message in asked.messages],
        request=sampling_request(asked, next(limit for limit in limits if limit is not None)),
        tools=tools,
        tool_choice=choice.mode,
        response_format=schema or None,
        grammar=grammar_of(asked, {"tool_choice": forced, "response_format": form}),
        thinking=thinking,
        effort=effort,
        document=asked.document,
        sources=asked.wants_sources,
        bins=asked.map_bins,
        quote=asked.quote,
        salt=asked.cache_salt or "",
        priority=asked.priority or 0,
        top_logprobs=_top_logprobs(asked),
        prompt_logprobs=asked.prompt_logprobs,
        seconds=context.seconds,
    )


def _reasoning(asked: ChatBody) -> tuple[bool, Effort]:
    """Whether to reason, and how long: `thinking` decides, then the template's options; an effort alone means yes."""
    options = asked.chat_template_kwargs or TemplateOptions()
    name = "reasoning_effort" if asked.reasoning_effort is not None else "chat_template_kwargs.reasoning_effort"
    word = asked.reasoning_effort if asked.reasoning_effort is not None else options.reasoning_effort
    if word is not None and word not in EFFORTS:
        raise FieldError(f"{name} is {word!r}; it must be one of {', '.join(EFFORTS)}", param=name)
    effort = None if word is None else EFFORTS[word]
    if asked.thinking is not None:
        if asked.thinking.type not in _THINKING:
            raise FieldError(
                f"thinking.type is {asked.thinking.type!r}; it must be one of {', '.join(_THINKING)}",
                param="thinking.type",
            )
        return _THINKING[asked.thinking.type], effort or Effort.LOW
    told = options.thinking if options.thinking is not None else options.enable_thinking
    return effort is not None if told is None else told, effort or Effort.LOW


def _tools(tools: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    for place, tool in enumerate(tools or ()):
        where = f"tools[{place}]"
        if tool.get("type", "function") != "function":
            raise FieldError(f"{where}.type is {tool['type']!r}; only functions are supported", param=f"{where}.type")
        function = tool.get("function")
        if not isinstance(function, dict):
            raise FieldError(f"{where}.function is missing; a tool needs its function", param=f"{where}.function")
        name = function.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            shown = f"{where}.function.name"
            raise FieldError(f"{shown} is {name!r}; it must be 1 to 128 letters, digits, _ . : / -", param=shown)
    return tools or []


def _schema(form: ResponseFormat | None) -> dict[str, Any] | None:
    """The schema that `response_format` gives, None where it gives none."""
    if form is None or form.type in ("text", "json_object"):
        return None
    if form.type != "json_schema":
        raise FieldError(
            f"response_format.type is {form.type!r}; it must be text, json_object or json_schema",
            param="response_format.type",
        )
    if form.json_schema is None:
        raise FieldError("response_format.json_schema is missing", param="response_format.json_schema")
    return form.json_schema.schema_


def _format_grammar(form: ResponseFormat | None, schema: dict[str, Any] | None) -> Grammar | None:
    if form is not None and form.type == "json_object":
        return Grammar(kind=GrammarKind.JSON)
    return schema_grammar(schema)


def _top_logprobs(asked: ChatBody) -> int | None:
    top = asked.top_logprobs
    if not asked.logprobs:
        if top:
            raise FieldError(f"top_logprobs is {top}; it needs logprobs to be true", param="top_logprobs")
        return None
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        raise FieldError(f"top_logprobs is {top}; it must be from 0 to {MAX_TOP_LOGPROBS}", param="top_logprobs")
    return top or 0
