"""The body of a chat completion as a call: reasoning, forms of answers, tools, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.engine.serving.calls import calls_source
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.chat_request import ChatBody, chat_call
from octavo.server.settings import ServerSettings
from octavo.server.turn import ChatCall
from octavo.text.template import Effort
from tests.support.serving import Scripted, context_over

ASKED = [{"role": "user", "content": "Who?"}]
TOOL = {"type": "function", "function": {"name": "look"}}


def call(**fields: Any) -> ChatCall:
    body = {"model": "tiny", "messages": ASKED} | fields
    return chat_call(
        ChatBody.model_validate(body), context_over(Scripted(), settings=ServerSettings(request_seconds=9))
    )


def test_plain_question_has_the_defaults_of_the_protocol() -> None:
    made = call()
    assert list(made.messages) == ASKED
    assert (made.request.temperature, made.request.max_tokens) == (1.0, 4096)
    assert (made.thinking, made.tools, made.grammar, made.top_logprobs, made.sources) == (
        False,
        None,
        None,
        None,
        False,
    )
    assert made.seconds == 9


def test_newer_name_of_the_limit_wins() -> None:
    assert call(max_tokens=5).request.max_tokens == 5
    assert call(max_tokens=5, max_completion_tokens=7).request.max_tokens == 7


@pytest.mark.parametrize(
    ("fields", "thinking", "effort"),
    [
        ({"thinking": {"type": "enabled"}}, True, Effort.LOW),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, False, Effort.HIGH),
        ({"reasoning_effort": "high"}, True, Effort.HIGH),
        ({"reasoning_effort": "max"}, True, Effort.MAX),
        ({"reasoning_effort": "medium"}, True, Effort.LOW),
        ({"reasoning_effort": "none"}, False, Effort.LOW),
        ({"reasoning_effort": "minimal"}, False, Effort.LOW),
        ({"chat_template_kwargs": {"thinking": True}}, True, Effort.LOW),
        ({"chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "max"}}, False, Effort.MAX),
        ({"chat_template_kwargs": {"thinking": True, "reasoning_effort": "max"}}, True, Effort.MAX),
    ],
)
def test_every_way_to_ask_for_reasoning(fields: dict[str, Any], thinking: bool, effort: Effort) -> None:
    made = call(**fields)
    assert (made.thinking, made.effort) == (thinking, effort)


def test_response_format_is_told_and_held() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    made = call(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}})
    assert made.response_format == schema
    assert made.grammar is not None
    assert made.grammar.kind is GrammarKind.SCHEMA
    assert call(response_format={"type": "json_object"}).grammar == Grammar(kind=GrammarKind.JSON)
    assert call(response_format={"type": "text"}).grammar is None


def test_extensions_reach_the_call() -> None:
    made = call(document="book", quote=False, cache_salt="s", priority=3, logprobs=True, top_logprobs=2)
    assert (made.document, made.sources, made.quote, made.salt, made.priority) == ("book", True, False, "s", 3)
    assert made.top_logprobs == 2
    assert call(logprobs=True).top_logprobs == 0
    assert not call(document="book", sources=False).sources


def test_reasoning_of_earlier_turns_is_kept_under_either_name() -> None:
    turns = [*ASKED, {"role": "assistant", "content": "He.", "reasoning": "hm"}, {"role": "user", "content": "Why?"}]
    assert call(messages=turns).messages[1]["reasoning_content"] == "hm"


def test_tools_may_be_left_to_the_model_or_out() -> None:
    made = call(tools=[TOOL], tool_choice="none", parallel_tool_calls=True)
    assert (made.tools, made.tool_choice, made.grammar) == ([TOOL], "none", None)
    assert call(tools=[], tool_choice="auto").tools is None


def test_a_forced_call_is_a_grammar_of_calls() -> None:
    form = {"type": "json_object"}  # it speaks of content, which a forced call has not
    made = call(tools=[TOOL], tool_choice="required", parallel_tool_calls=False, response_format=form)
    function = TOOL["function"]
    tools = [{"name": function["name"], "parameters": function.get("parameters")}]
    assert made.tool_choice == "required"
    assert made.grammar == Grammar(kind=GrammarKind.CALLS, source=calls_source(tools, parallel=False))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": [TOOL], "guided_regex": "a"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "none"}}}, "tool_choice"),
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"functions": [{"name": "look"}]}, "functions"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"reasoning_effort": "huge"}}, "chat_template_kwargs.reasoning_effort"),
        ({"thinking": {"type": "adaptive"}}, "thinking.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"n": 17}, "n"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(FieldError) as told:
        call(**fields)
    assert told.value.param == param
