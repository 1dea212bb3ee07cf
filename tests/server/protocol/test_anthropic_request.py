"""Bodies of messages requests: what each field becomes, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.config.errors import LimitError, UsageError
from octavo.engine.serving.calls import calls_source
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.anthropic_request import read_request
from octavo.text.chat import ChatOptions, render_text
from octavo.text.template import Effort

TOOL = {
    "name": "weather",
    "description": "Tells it.",
    "input_schema": {"type": "object"},
    "cache_control": {"type": "x"},
}
USER = {"role": "user", "content": "Hi"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Snow."}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 5, "messages": list(messages or [USER])} | fields


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def prompt(given: dict[str, Any]) -> str:
    call = read_request(given).call
    options = ChatOptions(thinking=call.thinking, effort=call.effort)
    return render_text(call.messages, options=options, tools=call.tools, response_format=call.response_format)


def test_the_shortest_request() -> None:
    asked = read_request(body())
    assert (asked.model, asked.stream, asked.parallel) == ("m", False, True)
    request = asked.call.request
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k, request.stop) == (
        5,
        1.0,
        1.0,
        None,
        (),
    )
    assert (asked.call.thinking, asked.call.document, asked.call.sources, asked.call.grammar) == (
        False,
        None,
        False,
        None,
    )
    assert prompt(body()) == "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>"


def test_sampling_and_extensions() -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop_sequences": ["a", "b"], "document": "book",
              "quote": True, "cache_salt": "s", "stream": True, "metadata": {"user_id": "u"}}  # fmt: skip
    asked = read_request(body(**fields))
    request, call = asked.call.request, asked.call
    assert (request.temperature, request.top_p, request.top_k, request.stop) == (0.5, 0.9, 7, ("a", "b"))
    assert (call.document, call.sources, call.quote, call.salt, asked.stream) == ("book", True, True, "s", True)
    assert read_request(body(document="book", sources=False)).call.sources is False


@pytest.mark.parametrize("system", ["Be kind.", [text("Be kind.") | {"cache_control": {"type": "ephemeral"}}]])
def test_system_comes_first(system: Any) -> None:
    assert prompt(body(system=system)).startswith("<｜begin▁of▁sentence｜>Be kind.<｜User｜>Hi")


def test_text_blocks_are_one_turn() -> None:
    given = body({"role": "user", "content": [text("One"), text("two")]})
    assert "<｜User｜>One\n\ntwo<｜Assistant｜>" in prompt(given)


def test_a_tool_round_trip_reads_as_the_format_has_it() -> None:
    thought = {"type": "thinking", "thinking": "I look.", "signature": "x"}
    said = {"role": "assistant", "content": [thought, text("Wait."), CALL]}
    given = body(USER, said, {"role": "user", "content": [RESULT, text("Well?")]}, tools=[TOOL], max_tokens=50,
                 thinking={"type": "enabled", "budget_tokens": 20})  # fmt: skip
    found = prompt(given)
    assert '{"name": "weather", "parameters": {"type": "object"}, "description": "Tells it."}' in found
    calls = ('<think>I look.</think>Wait.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n'
             '<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n')  # fmt: skip
    assert calls in found
    assert found.endswith("<｜User｜><tool_result>Snow.</tool_result>\n\nWell?<｜Assistant｜><think>")


def test_results_of_several_calls_and_in_blocks() -> None:
    other = CALL | {"id": "toolu_2", "name": "clock"}
    results = [RESULT | {"tool_use_id": "toolu_2", "content": [text("Ten.")], "is_error": True}, RESULT]
    given = body(USER, {"role": "assistant", "content": [CALL, other]}, {"role": "user", "content": results})
    assert "<tool_result>Snow.</tool_result>\n\n<tool_result>Ten.</tool_result>" in prompt(given)
    empty = body(
        USER, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [RESULT | {"content": None}]}
    )
    assert "<tool_result></tool_result>" in prompt(empty)


def test_the_answer_goes_on_from_a_last_message_of_the_assistant() -> None:
    given = body(USER, {"role": "assistant", "content": "The answer is ("})
    assert prompt(given).endswith("<｜User｜>Hi<｜Assistant｜></think>The answer is (")


def test_control_tokens_in_a_message_stay_text() -> None:
    call = read_request(body({"role": "user", "content": "<｜end▁of▁sentence｜>"})).call
    assert call.messages[0]["content"] == [text("<｜end▁of▁sentence｜>")]


@pytest.mark.parametrize(
    ("fields", "thinking", "effort"),
    [
        ({}, False, Effort.LOW),
        ({"thinking": {"type": "disabled"}}, False, Effort.LOW),
        ({"thinking": {"type": "enabled", "budget_tokens": 4}}, True, Effort.LOW),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, True, Effort.HIGH),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, True, Effort.MAX),
    ],
)
def test_thinking(fields: dict[str, Any], thinking: bool, effort: Effort) -> None:
    call = read_request(body(**fields)).call
    assert (call.thinking, call.effort) == (thinking, effort)


def test_structured_output_is_a_grammar() -> None:
    schema = {"type": "object"}
    call = read_request(body(output_config={"format": {"type": "json_schema", "schema": schema}})).call
    assert call.grammar == Grammar(kind=GrammarKind.SCHEMA, source='{"type": "object"}')
    assert call.response_format == schema


def test_tool_choice() -> None:
    assert read_request(body(tools=[TOOL], tool_choice={"type": "none"})).call.tool_choice == "none"
    one = read_request(body(tools=[TOOL], tool_choice={"type": "auto", "disable_parallel_tool_use": True}))
    assert (one.call.tool_choice, one.parallel) == ("auto", False)
    forced = read_request(body(tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True})).call
    tools = [{"name": TOOL["name"], "parameters": TOOL["input_schema"]}]
    assert forced.tool_choice == "required"
    assert forced.grammar == Grammar(kind=GrammarKind.CALLS, source=calls_source(tools, parallel=False))
    named = read_request(body(tools=[TOOL], tool_choice={"type": "tool", "name": TOOL["name"]})).call
    assert named.grammar == Grammar(kind=GrammarKind.CALLS, source=calls_source(tools))


def test_counting_needs_no_max_tokens() -> None:
    given = body(thinking={"type": "enabled", "budget_tokens": 1024})
    del given["max_tokens"]
    assert read_request(given, counting=True).call.thinking
    with pytest.raises(FieldError, match="^max_tokens is missing; it must be an integer from 1$"):
        read_request(given)


IMAGE = {"type": "image", "source": {}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "the body is an array; it must be an object"),
        (body(model=None), "model is missing; it must be a string"),
        (body(max_tokens=0), "max_tokens is 0; it must be an integer from 1"),
        (body() | {"messages": []}, "messages is an array; it must be an array of at least one message"),
        (body() | {"messages": "Hi"}, "messages is 'Hi'; it must be an array of objects"),
        (body({"role": "robot", "content": "a"}), "messages[0].role is 'robot'; it must be 'user' or 'assistant'"),
        (body({"role": "user"}), "messages[0].content is missing; it must be a string or an array of blocks"),
        (body({"role": "user", "content": []}),
         "messages[0].content is empty; a user message needs at least one block"),
        (body({"role": "user", "content": [text("a"), IMAGE]}),
         "messages[0].content[1].type is 'image'; it must be 'text' or 'tool_result'"),
        (body(USER, {"role": "assistant", "content": [IMAGE]}),
         "messages[1].content[0].type is 'image'; it must be 'text' or 'tool_use' or 'thinking'"),
        (body({"role": "user", "content": [RESULT | {"content": [IMAGE]}]}),
         "messages[0].content[0].content[0].type is 'image'; it must be 'text'"),
        (body(USER, {"role": "assistant", "content": [CALL]}),
         "messages[1] ends with a tool_use; a tool_result must follow it"),
        (body(USER, {"role": "assistant", "content": "a"}, thinking={"type": "adaptive"}),
         "messages[1].role is 'assistant'; it must be 'user' in the last message, since thinking is enabled"),
        (body(thinking={"type": "enabled"}), "thinking.budget_tokens is missing; it must be an integer from 1"),
        (body(thinking={"type": "enabled", "budget_tokens": 5}),
         "thinking.budget_tokens is 5; it must be below max_tokens, which is 5"),
        (body(tool_choice={"type": "any"}), "tool_choice asks for a call; tools are missing"),
        (body(tools=[TOOL], tool_choice={"type": "tool", "name": "g"}),
         "tool_choice names 'g'; tools have no such function"),
        (body(tools=[TOOL | {"type": "bash_20250124"}]),
         "tools[0].type is 'bash_20250124'; it must be 'custom', a tool that the client runs"),
        (body(tools=[{"name": "f"}]), "tools[0].input_schema is missing; it must be an object"),
        (body(system=[IMAGE]), "system[0].type is 'image'; it must be 'text'"),
        (body(stop_sequences="a"), "stop_sequences is 'a'; it must be an array of strings"),
        (body(stop_sequences=["a"] * 17), "stop_sequences is an array; it must be at most 16 strings of at most 1024 "
         "characters"),
        (body(stop_sequences=["a" * 1025]), "stop_sequences is an array; it must be at most 16 strings of at most 1024 "
         "characters"),
        (body(stream="yes"), "stream is 'yes'; it must be true or false"),
        (body(output_config={"format": {"type": "xml"}}),
         "output_config.format.type is 'xml'; it must be 'json_schema'"),
    ],
)  # fmt: skip
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_request(given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"temperature": -1}, LimitError, "temperature is -1"),
        ({"temperature": "hot"}, LimitError, "temperature is 'hot'"),
        ({"top_k": 0}, LimitError, "top_k is 0"),
        ({"top_p": 2}, LimitError, "top_p is 2"),
        ({"stop_sequences": [""]}, UsageError, r"stop\[0\] is empty"),
    ],
)
def test_limits_of_sampling(fields: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_request(body(**fields))
