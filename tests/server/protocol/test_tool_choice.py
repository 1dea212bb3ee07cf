"""Forced calls and forbidden ones: how each protocol spells them, and what a real server then answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema_rs
import pytest

from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.fields import Fields
from octavo.server.protocol.tool_choice import ToolChoice, anthropic_choice, chat_choice, responses_choice
from octavo.text.special import Special
from tests.support.serving import Overheard, stream_events

SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["celsius", "kelvin"]},
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "when": {"type": "string", "format": "date"},
        "sure": {"type": "boolean"},
    },
    "required": ["unit", "name", "days", "when"],
    "additionalProperties": False,
}
EMPTY = {"type": "object", "properties": {}, "additionalProperties": False}
FUNCTIONS = [{"name": "weather", "parameters": SCHEMA}, {"name": "wait", "parameters": EMPTY}]
TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]
ASKED = [{"role": "user", "content": "What is the weather at the lighthouse?"}]
NAMED = {"type": "function", "function": {"name": "weather"}}
CHAT = {"model": "tiny", "messages": ASKED, "max_tokens": 400, "temperature": 0, "tools": TOOLS}
RESPONSES = {"model": "tiny", "input": "What is the weather?", "max_output_tokens": 400, "temperature": 0,
             "tools": [{"type": "function", **function} for function in FUNCTIONS]}  # fmt: skip
MESSAGES = {"model": "tiny", "messages": ASKED, "max_tokens": 400, "temperature": 0,
            "tools": [{"name": one["name"], "input_schema": one["parameters"]} for one in FUNCTIONS]}  # fmt: skip


def post(client: httpx.Client, path: str, body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    told = client.post(path, json=body | fields)
    assert told.status_code == 200, told.text
    return told.json()


def choice_of(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    return post(client, "/v1/chat/completions", CHAT, **fields)["choices"][0]


def test_how_the_openai_protocols_spell_it() -> None:
    some = ToolChoice(mode="required", names=("a",))
    assert chat_choice(None) == responses_choice(None) == ToolChoice()
    for word in ("auto", "none", "required"):
        assert chat_choice(word) == responses_choice(word) == ToolChoice(mode=word)
    function = {"type": "function", "function": {"name": "a"}}
    assert chat_choice(function) == responses_choice({"type": "function", "name": "a"}) == some
    assert chat_choice({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function]}}) == some
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "a"}]}
    assert responses_choice(allowed) == some


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "tool_choice is 5; it must be auto, none, required or an object"),
        ("weather", "tool_choice is 'weather'; it must be auto"),
        ({"type": "web_search"}, "tool_choice.type is 'web_search'"),
        ({"type": "function"}, "tool_choice.function is missing"),
        ({"type": "function", "function": {}}, "tool_choice.function.name is missing"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "allowed_tools.mode is 'auto'"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, "tools is an array"),
    ],
)
def test_what_is_no_choice_is_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        chat_choice(given)


def test_how_the_messages_protocol_spells_it() -> None:
    def read(**choice: Any) -> tuple[ToolChoice, bool]:
        return anthropic_choice(Fields({"tool_choice": choice} if choice else {}))

    assert read() == (ToolChoice(), True)
    assert read(type="any") == (ToolChoice(mode="required"), True)
    assert read(type="any", disable_parallel_tool_use=True) == (ToolChoice(mode="required"), False)
    assert read(type="tool", name="a") == (ToolChoice(mode="required", names=("a",)), True)
    assert read(type="none") == (ToolChoice(mode="none"), True)
    with pytest.raises(FieldError, match="tool_choice.name is missing"):
        read(type="tool")


def test_the_grammar_holds_the_tools_that_are_meant() -> None:
    assert ToolChoice().grammar(TOOLS, parallel=True) is None
    made = ToolChoice(mode="required", names=("wait", "wait")).grammar(TOOLS, parallel=False)
    assert made is not None
    assert made.kind is GrammarKind.CALLS
    assert json.loads(made.source) == {"parallel": False, "tools": [FUNCTIONS[1]]}
    with pytest.raises(FieldError, match="names 'go'; tools have no such function"):
        ToolChoice(mode="required", names=("go",)).grammar(TOOLS, parallel=True)
    with pytest.raises(FieldError, match="tools are missing"):
        ToolChoice(mode="required").grammar(None, parallel=True)


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("choice", ["required", NAMED])
def test_chat_calls_a_tool_with_arguments_of_its_schema(client: httpx.Client, choice: Any, temperature: int) -> None:
    """A model of random weights does it too: what it says is held to the grammar, not hoped for."""
    fields = {"tool_choice": choice, "parallel_tool_calls": False, "temperature": temperature, "seed": 5}
    made = choice_of(client, **fields)
    [call] = made["message"]["tool_calls"]
    name = call["function"]["name"]
    jsonschema_rs.validate(EMPTY if name == "wait" else SCHEMA, json.loads(call["function"]["arguments"]))
    assert made["finish_reason"] == "tool_calls"
    assert made["message"]["content"] is None
    assert name == "weather" or choice == "required"


def test_a_stream_of_a_forced_call_is_the_body_in_parts(client: httpx.Client) -> None:
    fields = {"tool_choice": NAMED, "parallel_tool_calls": False}
    [call] = choice_of(client, **fields)["message"]["tool_calls"]
    told = client.post("/v1/chat/completions", json=CHAT | fields | {"stream": True})
    chunks = [value["choices"][0] for name, value in stream_events(told.text) if name is None and value != "[DONE]"]
    parts = [one for chunk in chunks for one in chunk["delta"].get("tool_calls", ())]
    assert parts[0]["function"]["name"] == "weather"
    assert "".join(part["function"]["arguments"] for part in parts) == call["function"]["arguments"]
    assert chunks[-1]["finish_reason"] == "tool_calls"


def test_several_calls_may_come_unless_that_is_disabled(client: httpx.Client) -> None:
    """Every tool is `wait` here, so that an answer is short; a seed is looked for under which two of them come."""
    fields = {"tools": [TOOLS[1]], "tool_choice": "required", "temperature": 1, "max_tokens": 1000}
    for seed in range(30):
        calls = choice_of(client, **fields, seed=seed)["message"].get("tool_calls", [])
        if len(calls) > 1:
            break
    else:
        pytest.fail("no seed gave two calls")
    assert {call["function"]["name"] for call in calls} == {"wait"}
    assert len(choice_of(client, **fields, seed=seed, parallel_tool_calls=False)["message"]["tool_calls"]) == 1


def test_reasoning_comes_first_and_is_free(served: tuple[httpx.Client, Overheard]) -> None:
    """The calls come behind the mark that ends it; an answer cut off in its reasoning has none of either."""
    client, service = served
    end = service.llm.tokenizer.special(Special.END_THINK)
    made = choice_of(client, tool_choice="required", thinking={"type": "enabled"}, max_tokens=6)
    job = service.jobs[-1]
    assert (job.grammar_after, job.grammar.kind) == (end, GrammarKind.CALLS)
    assert made["finish_reason"] == "length"
    assert made["message"]["content"] == ""  # text, though all tokens were reasoning
    assert made["message"]["reasoning_content"]
    assert "tool_calls" not in made["message"]


def test_messages_and_responses_call_too(client: httpx.Client) -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        told = post(client, "/v1/messages", MESSAGES, tool_choice=choice | {"disable_parallel_tool_use": True})
        [block] = told["content"]
        jsonschema_rs.validate(EMPTY if block["name"] == "wait" else SCHEMA, block["input"])
        assert (block["type"], told["stop_reason"]) == ("tool_use", "tool_use")
    for choice in ("required", {"type": "function", "name": "weather"}):
        told = post(client, "/v1/responses", RESPONSES, tool_choice=choice, parallel_tool_calls=False)
        [item] = told["output"]
        jsonschema_rs.validate(EMPTY if item["name"] == "wait" else SCHEMA, json.loads(item["arguments"]))
        assert (item["type"], told["status"], told["tool_choice"]) == ("function_call", "completed", choice)


def test_none_keeps_calls_out_in_every_protocol(served: tuple[httpx.Client, Overheard]) -> None:
    client, service = served
    choice_of(client, tool_choice="none", max_tokens=4)
    post(client, "/v1/messages", MESSAGES, tool_choice={"type": "none"}, max_tokens=4)
    post(client, "/v1/responses", RESPONSES, tool_choice="none", max_output_tokens=4)
    assert [job.no_calls for job in service.jobs[-3:]] == [True] * 3


def test_schemas_that_calls_cannot_be_held_to_are_refused(client: httpx.Client) -> None:
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"minProperties": 1}}}
    told = client.post("/v1/chat/completions", json=CHAT | {"tools": [odd], "tool_choice": "required"})
    assert told.status_code == 400
    assert "minProperties stands at the top of the parameters of tool 'odd'" in told.json()["error"]["message"]


def test_a_grammar_of_calls_is_a_grammar() -> None:
    assert ToolChoice(mode="required").grammar(TOOLS, parallel=True) == Grammar(
        kind=GrammarKind.CALLS, source=json.dumps({"parallel": True, "tools": FUNCTIONS})
    )
