"""Bodies of responses requests: what items and fields become, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.config.errors import LimitError
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.responses_request import read_request
from octavo.text.chat import ChatOptions, render_text
from octavo.text.template import Effort

TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object"},
    "strict": True,
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "Snow."}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "I look."}]}


def body(given: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": given} | fields


def message(role: str, *texts: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text} for text in texts]}


def prompt(given: dict[str, Any], earlier: Any = ()) -> str:
    call = read_request(given, earlier=earlier).call
    options = ChatOptions(thinking=call.thinking, effort=call.effort)
    return render_text(call.messages, options=options, tools=call.tools, response_format=call.response_format)


def test_the_shortest_request() -> None:
    asked = read_request(body(), default_max_tokens=77)
    assert (asked.model, asked.stream, asked.store, asked.parallel) == ("m", False, True, True)
    assert (asked.call.request.max_tokens, asked.call.request.temperature, asked.call.thinking) == (77, 1.0, False)
    assert prompt(body()) == "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>"


def test_fields_come_back() -> None:
    fields = {"instructions": "Be kind.", "max_output_tokens": 9, "metadata": {"a": "b"}, "temperature": 0.2,
              "top_p": 0.9,
              "tools": [TOOL], "tool_choice": "none", "store": False, "parallel_tool_calls": False,
              "reasoning": {"effort": "high", "summary": "auto"}, "text": {"verbosity": "low"}}  # fmt: skip
    asked = read_request(body(**fields))
    assert asked.echo["tools"] == [TOOL]
    assert asked.echo["reasoning"] == {"effort": "high", "summary": None}
    assert asked.echo["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    same = ("instructions", "max_output_tokens", "metadata", "temperature", "top_p", "tool_choice", "store")
    assert {name: asked.echo[name] for name in same} == {name: fields[name] for name in same}
    assert (asked.call.request.max_tokens, asked.call.request.top_p, asked.call.tool_choice) == (9, 0.9, "none")
    assert (asked.store, asked.parallel) == (False, False)
    bare = read_request(body(tools=[{"type": "function", "name": "f"}])).echo["tools"][0]
    assert bare == {"type": "function", "name": "f", "description": None, "parameters": None, "strict": False}


def test_instructions_and_leading_system_items_are_one_and_later_ones_speak_as_developer() -> None:
    items = [message("developer", "Short."), message("user", "Hi"), message("system", "Now in French.")]
    found = prompt(body(items, instructions="Be kind."))
    assert found == (
        "<｜begin▁of▁sentence｜>Be kind.\n\nShort.<｜User｜>Hi<｜User｜>Now in French.<｜Assistant｜></think>"
    )


def test_items_of_the_assistant_are_one_turn_and_tools_round_trip() -> None:
    said = message("assistant", "Wait.", kind="output_text") | {"id": "msg_1", "status": "completed"}
    other = CALL | {"call_id": "call_2", "name": "clock", "arguments": "{}"}
    ten = OUTPUT | {"call_id": "call_2", "output": [{"type": "input_text", "text": "Ten."}]}
    given = body([message("user", "Hi"), THOUGHT, said, CALL, other, ten, OUTPUT], tools=[TOOL],
                 reasoning={"effort": "low"})  # fmt: skip
    found = prompt(given)
    assert '{"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}' in found
    turn = ('<｜Assistant｜><think>I look.</think>Wait.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n'
            '<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
            '<｜DSML｜invoke name="clock">')  # fmt: skip
    assert turn in found
    assert found.endswith("<｜User｜><tool_result>Snow.</tool_result>\n\n<tool_result>Ten.</tool_result>"
                          "<｜Assistant｜><think>")  # fmt: skip


def test_two_messages_or_a_new_thought_begin_a_new_turn() -> None:
    one, two = message("assistant", "One.", kind="output_text"), message("assistant", "Two.", kind="output_text")
    asked = read_request(body([message("user", "Hi"), one, two, THOUGHT, CALL, OUTPUT]))
    assert [entry["role"] for entry in asked.history] == ["user", "assistant", "assistant", "assistant", "tool"]
    assert asked.history[3]["reasoning_content"] == "I look."
    assert asked.history[3]["tool_calls"][0]["id"] == "call_1"


def test_a_message_needs_no_type_and_may_be_a_string() -> None:
    assert prompt(body([{"role": "user", "content": "Hi"}])) == prompt(body("Hi"))


def test_history_goes_on_without_the_earlier_instructions() -> None:
    first = read_request(body("One", instructions="Be kind."))
    assert all(entry["role"] != "system" for entry in first.history)
    earlier = (*first.history, {"role": "assistant", "content": "1.", "reasoning_content": ""})
    found = prompt(body("Two", instructions="Be brief."), earlier)
    assert found == ("<｜begin▁of▁sentence｜>Be brief.<｜User｜>One<｜Assistant｜></think>1.<｜end▁of▁sentence｜>"
                     "<｜User｜>Two<｜Assistant｜></think>")  # fmt: skip
    second = read_request(body("Two"), earlier=earlier)
    assert second.history[:2] == earlier
    assert len(second.history) == 3


@pytest.mark.parametrize(
    ("effort", "thinking", "meant"),
    [(None, False, Effort.LOW), ("none", False, Effort.LOW), ("minimal", False, Effort.LOW), ("low", True, Effort.LOW),
     ("medium", True, Effort.LOW), ("high", True, Effort.HIGH), ("xhigh", True, Effort.MAX)],
)  # fmt: skip
def test_effort(effort: str | None, thinking: bool, meant: Effort) -> None:
    call = read_request(body(reasoning={"effort": effort})).call
    assert (call.thinking, call.effort) == (thinking, meant)


def test_text_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    formats = [{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "name": "n", "schema": schema}]
    calls = [read_request(body(text={"format": form})).call for form in formats]
    source = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    assert [call.grammar for call in calls] == [
        None, Grammar(kind=GrammarKind.JSON), Grammar(kind=GrammarKind.SCHEMA, source=source)]  # fmt: skip
    assert [call.response_format for call in calls] == [None, None, schema]


def test_extensions() -> None:
    call = read_request(body(document="book", quote=False, cache_salt="s")).call
    assert (call.document, call.sources, call.quote, call.salt) == ("book", True, False, "s")


def test_what_coding_agents_send_is_accepted() -> None:
    fields = {"include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "user": "u", "service_tier": "auto",
              "truncation": "disabled", "background": False, "stream_options": {}, "top_logprobs": 0}  # fmt: skip
    assert read_request(body(**fields)).model == "m"


IMAGE = {"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (body(background=True), "background is not supported: a response is made while its request is open"),
        (body(conversation="c"), "conversation is not supported: use previous_response_id"),
        (body(top_logprobs=21), "top_logprobs is 21; it must be from 0 to 20"),
        (body(top_logprobs=-1), "top_logprobs is -1; it must be an integer from 0"),
        (body(truncation="auto"), "truncation is 'auto'; it must be 'disabled'"),
        (body(model=None), "model is missing; it must be a string"),
        (body(None), "input is missing; it must be a string or an array of at least one item"),
        (body([]), "input is an array; it must be a string or an array of at least one item"),
        (body([IMAGE]), "input[0].content[0].type is 'input_image'; it must be 'input_text' or 'output_text'"),
        (body([{"type": "web_search_call"}]), "input[0].type is 'web_search_call'; it must be 'message' or "
         "'function_call' or 'function_call_output' or 'reasoning'"),
        (body([{"role": "user"}]), "input[0].content is missing; it must be a string or an array of parts"),
        (body([{"role": "tool", "content": ""}]),
         "input[0].role is 'tool'; it must be 'user' or 'assistant' or 'system' or 'developer'"),
        (body([message("user", "Hi"), CALL]),
         "input ends with items of the assistant; a message or a function_call_output must be last"),
        (body(tools=[{"type": "web_search"}]), "tools[0].type is 'web_search'; it must be 'function', a tool that the "
         "client runs"),
        (body(tool_choice="required"), "tool_choice asks for a call; tools are missing"),
        (body(tools=[TOOL], tool_choice={"type": "function", "name": "g"}),
         "tool_choice names 'g'; tools have no such function"),
        (body(tool_choice=5), "tool_choice is 5; it must be auto, none, required or an object"),
        (body(max_output_tokens=0), "max_output_tokens is 0; it must be an integer from 1"),
        (body(text={"format": {"type": "json_schema"}}), "text.format.schema is missing; it must be an object"),
        (body(metadata={str(i): "" for i in range(17)}), "metadata has 17 keys; it may have 16"),
        (body(metadata={"a": 1}), "metadata.a is 1; it must be a string"),
        (body(metadata={"a": "b" * 513}),
         "metadata 'a' is too long; a key may have 64 characters, a value 512"),
    ],
)  # fmt: skip
def test_what_is_refused(given: Any, text: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_request(given)
    assert str(caught.value) == text


def test_limits_of_sampling() -> None:
    with pytest.raises(LimitError, match="temperature is -1"):
        read_request(body(temperature=-1))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 4}, 4),
        ({"top_logprobs": 3}, 3),
    ],
)
def test_log_probabilities_are_asked_for_by_either_field(given: dict[str, Any], wanted: int | None) -> None:
    asked = read_request(body(**given))
    assert asked.call.top_logprobs == wanted
    assert asked.echo["top_logprobs"] == (wanted or 0)
