"""Scripted turns as Anthropic events: order, blocks, stop reasons, and that stream and message agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from octavo.engine.answer import Finish, Source
from octavo.engine.serving.events import Ended, JobUsage, Reading, Token
from octavo.server.protocol.anthropic_stream import MessageEncoder, new_id
from octavo.server.turn import TokensMade, TurnEnd, TurnEvent
from octavo.text.completion import (
    Completion,
    ContentDelta,
    Problem,
    ReasoningDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
NOTHING = Completion(reasoning="", content="", tool_calls=(), finished=True, truncated=None, problems=())
USAGE = JobUsage(prompt_tokens=50, cached_tokens=30, answer_tokens=9)
WEATHER = [
    ToolCallStart(0, "weather"),
    ToolCallDelta(0, '{"city": "Os'),
    ToolCallDelta(0, 'lo"}'),
    ToolCallEnd(0, True),
]


def end(finish: Finish = Finish.END, stop: str | None = None, sources: tuple[Source, ...] = ()) -> TurnEnd:
    ended = Ended(id="x", finish=finish, usage=USAGE, stop=stop, sources=sources)
    return TurnEnd(completion=NOTHING, ended=ended, reasoning_tokens=4)


def play(events: Sequence[TurnEvent], *, parallel: bool = True) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every stream event, checked against the client's own types, and the message."""
    encoder = MessageEncoder(id="msg_1", model="m", prompt_tokens=20, parallel=parallel)
    wires = encoder.start()
    for event in events:
        wires += encoder.feed(event)
    for wire in wires:
        assert EVENTS.validate_python(wire).type == wire["type"]
    Message.model_validate(encoder.message)
    return wires, encoder.message


def rebuilt(wires: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks as a client puts them together."""
    blocks: list[dict[str, Any]] = []
    arguments: dict[int, str] = {}
    for wire in wires:
        if wire["type"] == "content_block_start":
            assert wire["index"] == len(blocks)
            blocks.append(dict(wire["content_block"]))
        elif wire["type"] == "content_block_delta":
            assert wire["index"] == len(blocks) - 1
            kind, delta = wire["delta"]["type"], wire["delta"]
            if kind == "input_json_delta":
                arguments[wire["index"]] = arguments.get(wire["index"], "") + delta["partial_json"]
            else:
                field = kind.removesuffix("_delta")
                blocks[-1][field] += delta[field]
        elif wire["type"] == "content_block_stop":
            assert wire["index"] == len(blocks) - 1
    for index, text in arguments.items():
        blocks[index]["input"] = json.loads(text)
    return blocks


def kinds(wires: list[dict[str, Any]]) -> list[str]:
    return [wire["delta"]["type"] if wire["type"] == "content_block_delta" else wire["type"] for wire in wires]


def test_text_alone() -> None:
    wires, message = play([ContentDelta("Hel"), ContentDelta("lo"), end()])
    assert kinds(wires) == ["message_start", "content_block_start", "text_delta", "text_delta", "content_block_stop",
                            "message_delta", "message_stop"]  # fmt: skip
    assert message["content"] == [{"type": "text", "text": "Hello"}]
    assert (message["id"], message["model"], message["role"], message["type"]) == ("msg_1", "m", "assistant", "message")


def test_thinking_is_signed_at_its_end_and_text_and_tools_follow() -> None:
    events = [ReasoningDelta("I "), ReasoningDelta("see."), ContentDelta("Wait."), *WEATHER, end()]
    wires, message = play(events)
    start, stop = "content_block_start", "content_block_stop"
    assert kinds(wires) == ["message_start", start, "thinking_delta", "thinking_delta", "signature_delta", stop,
                            start, "text_delta", stop, start, "input_json_delta", "input_json_delta", stop,
                            "message_delta", "message_stop"]  # fmt: skip
    thinking, text, call = message["content"]
    assert (thinking["thinking"], text["text"]) == ("I see.", "Wait.")
    assert len(thinking["signature"]) > 20
    assert (call["name"], call["input"], call["id"][:6]) == ("weather", {"city": "Oslo"}, "toolu_")
    assert message["stop_reason"] == "tool_use"
    assert rebuilt(wires) == message["content"]
    assert wires[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}


def test_a_signature_belongs_to_its_text() -> None:
    signed = [play([ReasoningDelta(text), end()])[1]["content"][0]["signature"] for text in ("a", "a", "b")]
    assert signed[0] == signed[1] != signed[2]


def test_two_calls_have_their_own_blocks_and_ids() -> None:
    second = [ToolCallStart(1, "clock"), ToolCallDelta(1, "{}"), ToolCallEnd(1, True)]
    wires, message = play([*WEATHER, *second, end()])
    first_block, second_block = message["content"]
    assert (second_block["name"], second_block["input"]) == ("clock", {})
    assert first_block["id"] != second_block["id"]
    assert rebuilt(wires) == message["content"]
    only = play([*WEATHER, *second, end()], parallel=False)[1]
    assert [block["name"] for block in only["content"]] == ["weather"]
    assert only["stop_reason"] == "tool_use"


def test_a_call_that_is_cut_short_is_streamed_but_not_in_the_message() -> None:
    cut = [ContentDelta("So"), ToolCallStart(0, "weather"), ToolCallDelta(0, '{"city": "O'), ToolCallEnd(0, False)]
    wires, message = play([*cut, end(Finish.LENGTH)])
    assert [block["type"] for block in message["content"]] == ["text"]
    assert message["stop_reason"] == "max_tokens"
    assert kinds(wires)[-4:] == ["input_json_delta", "content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize(
    ("finish", "stop", "reason"),
    [
        (Finish.END, None, "end_turn"),
        (Finish.STOP, "\n\n", "stop_sequence"),
        (Finish.LENGTH, None, "max_tokens"),
        (Finish.CONTEXT, None, "model_context_window_exceeded"),
    ],
)
def test_stop_reasons(finish: Finish, stop: str | None, reason: str) -> None:
    wires, message = play([ContentDelta("a"), end(finish, stop)])
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)
    assert wires[-2]["delta"] == {"stop_reason": reason, "stop_sequence": stop}


def test_usage_counts_cached_tokens_apart() -> None:
    wires, message = play([ContentDelta("a"), end()])
    assert wires[0]["message"]["usage"]["input_tokens"] == 20
    assert wires[0]["message"]["usage"]["output_tokens"] == 0
    assert wires[-2]["usage"] == message["usage"]
    assert message["usage"] == {"input_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 0,
                                "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}  # fmt: skip


def test_an_answer_of_nothing_is_a_message_without_blocks() -> None:
    wires, message = play([end(Finish.LENGTH)])
    assert kinds(wires) == ["message_start", "message_delta", "message_stop"]
    assert message["content"] == []


def test_progress_tokens_and_problems_are_not_told() -> None:
    silent = [Reading(id="x", done=1, total=2), TokensMade(tokens=(Token(id=1, text=b"a"),)), Problem("odd")]
    assert play([*silent, ContentDelta("a"), end()]) == play([ContentDelta("a"), end()])


def test_sources_come_with_the_end() -> None:
    source = Source(file="a.txt", start=3, end=5, text="it", weight=0.5)
    wires, message = play([ContentDelta("a"), end(sources=(source,))])
    told = [{"file": "a.txt", "start": 3, "end": 5, "text": "it", "weight": 0.5}]
    assert message["sources"] == wires[-2]["sources"] == told
    assert "sources" not in play([end()])[1]


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-" + "8" * 5000])
def test_numbers_that_python_cannot_hold_stay_text(number: str) -> None:
    call = [ToolCallStart(0, "f"), ToolCallDelta(0, f'{{"n": {number}, "m": -2, "r": 0.5}}'), ToolCallEnd(0, True)]
    _, message = play([*call, end()])
    assert message["content"][0]["input"] == {"n": number, "m": -2, "r": 0.5}


def test_ids_differ() -> None:
    assert new_id("msg").startswith("msg_")
    assert len({new_id("msg") for _ in range(100)}) == 100
