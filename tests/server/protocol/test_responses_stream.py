"""Scripted turns as OpenAI response events: order, items, status, and that stream and response agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from octavo.config.errors import BusyError, LimitError
from octavo.engine.answer import Finish, Source
from octavo.engine.serving.events import Ended, JobUsage, Reading
from octavo.server.protocol.responses_stream import ResponseEncoder, new_id
from octavo.server.turn import TurnEnd, TurnEvent
from octavo.text.completion import Completion, ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallEnd, ToolCallStart

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ECHO = {"model": "m", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {"a": "b"}}
NOTHING = Completion(reasoning="", content="", tool_calls=(), finished=True, truncated=None, problems=())
USAGE = JobUsage(prompt_tokens=50, cached_tokens=30, answer_tokens=9)
WEATHER = [
    ToolCallStart(0, "weather"),
    ToolCallDelta(0, '{"city": "Os'),
    ToolCallDelta(0, 'lo"}'),
    ToolCallEnd(0, True),
]
CLOCK = [ToolCallStart(1, "clock"), ToolCallDelta(1, "{}"), ToolCallEnd(1, True)]
TEXT = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done"]  # fmt: skip


def end(finish: Finish = Finish.END, sources: tuple[Source, ...] = ()) -> TurnEnd:
    ended = Ended(id="x", finish=finish, usage=USAGE, sources=sources)
    return TurnEnd(completion=NOTHING, ended=ended, reasoning_tokens=4)


def play(events: Sequence[TurnEvent], *, parallel: bool = True) -> tuple[list[dict[str, Any]], ResponseEncoder]:
    """Every stream event, and the encoder after them."""
    encoder = ResponseEncoder(id="resp_1", created=1_700_000_000, echo=ECHO, parallel=parallel)
    wires = encoder.start()
    for event in events:
        wires += encoder.feed(event)
    check(wires)
    return wires, encoder


def check(wires: list[dict[str, Any]]) -> None:
    """By the client's own types, in sequence, each item begun once and over before the next."""
    assert [wire["sequence_number"] for wire in wires] == list(range(len(wires)))
    items: list[dict[str, Any]] = []
    is_open = False
    for wire in wires:
        assert EVENTS.validate_python(json.loads(json.dumps(wire))).type == wire["type"]
        if wire["type"] == "response.output_item.added":
            assert not is_open
            assert wire["output_index"] == len(items)
            items.append(wire["item"])
            is_open = True
        elif "output_index" in wire:
            assert is_open
            assert wire["output_index"] == len(items) - 1
            assert wire.get("item_id", items[-1]["id"]) == items[-1]["id"]
            is_open = wire["type"] != "response.output_item.done"
    assert not is_open


def kinds(wires: list[dict[str, Any]]) -> list[str]:
    return [wire["type"].removeprefix("response.") for wire in wires]


def test_text_alone() -> None:
    wires, encoder = play([ContentDelta("Hello"), end()])
    assert kinds(wires) == ["created", "in_progress", *TEXT, "completed"]
    response = encoder.response
    assert wires[-1]["response"] == response
    assert Response.model_validate(response).output_text == "Hello"
    assert (response["status"], response["metadata"], response["created_at"]) == (
        "completed",
        {"a": "b"},
        1_700_000_000,
    )
    assert response["output"][0]["status"] == "completed"
    assert wires[0]["response"]["output"] == []
    assert wires[2]["item"]["content"] == []
    assert wires[2]["item"]["status"] == "in_progress"


def test_reasoning_text_and_calls_in_order() -> None:
    wires, encoder = play(
        [ReasoningDelta("I "), ReasoningDelta("see."), ContentDelta("Wait."), *WEATHER, *CLOCK, end()]
    )
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    reasoning = [kind.replace("output_text", "reasoning_text") for kind in TEXT]
    reasoning.insert(2, "reasoning_text.delta")
    first = [call[0], call[1], *call[1:]]
    assert kinds(wires) == ["created", "in_progress", *reasoning, *TEXT, *first, *call, "completed"]
    thought, said, weather, clock = encoder.response["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "I see."}]
    assert said["content"][0]["text"] == "Wait."
    assert (weather["name"], weather["arguments"], clock["arguments"]) == ("weather", '{"city": "Oslo"}', "{}")
    ids = [item["id"] for item in encoder.response["output"]]
    assert [id.split("_")[0] for id in ids] == ["rs", "msg", "fc", "fc"]
    assert weather["call_id"].startswith("call_")
    assert weather["call_id"] != clock["call_id"]
    joined = "".join(wire["delta"] for wire in wires if wire["type"].endswith("arguments.delta"))
    assert joined == '{"city": "Oslo"}{}'


def test_done_events_repeat_what_the_deltas_said() -> None:
    wires, encoder = play([ContentDelta("a"), ContentDelta("b"), *WEATHER, end()])
    by_kind = {wire["type"].removeprefix("response."): wire for wire in wires}
    assert by_kind["output_text.done"]["text"] == by_kind["content_part.done"]["part"]["text"] == "ab"
    assert by_kind["function_call_arguments.done"]["arguments"] == '{"city": "Oslo"}'
    assert [wire["item"] for wire in wires if wire["type"].endswith("item.done")] == encoder.response["output"]


def test_what_was_sent_does_not_change_afterwards() -> None:
    encoder = ResponseEncoder(id="resp_1", created=0, echo=ECHO)
    wires = encoder.start() + encoder.feed(ContentDelta("a"))
    before = json.dumps(wires)
    encoder.feed(ContentDelta("b"))
    encoder.feed(end())
    assert json.dumps(wires) == before


def test_one_call_where_no_more_are_wanted() -> None:
    _, encoder = play([*WEATHER, *CLOCK, end()], parallel=False)
    assert [item["name"] for item in encoder.response["output"]] == ["weather"]


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.CONTEXT])
def test_an_answer_that_is_cut_off_is_incomplete(finish: Finish) -> None:
    wires, encoder = play([ContentDelta("a"), end(finish)])
    assert kinds(wires)[-1] == "incomplete"
    assert encoder.response["status"] == encoder.response["output"][0]["status"] == "incomplete"
    assert encoder.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert encoder.response["usage"]["output_tokens"] == 9


def test_a_call_that_is_cut_short_is_incomplete_and_not_gone_on_from() -> None:
    cut = [ToolCallStart(0, "weather"), ToolCallDelta(0, '{"city": "O'), ToolCallEnd(0, False)]
    _, encoder = play([ContentDelta("a"), *cut, end(Finish.LENGTH)])
    assert [item["status"] for item in encoder.response["output"]] == ["completed", "incomplete"]
    assert encoder.history == {"role": "assistant", "content": "a", "reasoning_content": ""}


def test_history_is_the_message_that_was_said() -> None:
    _, encoder = play([ReasoningDelta("hm"), ContentDelta("a"), *WEATHER, end()])
    call_id = encoder.response["output"][2]["call_id"]
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert encoder.history == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "hm",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def test_usage() -> None:
    usage = play([ContentDelta("a"), end()])[1].response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (50, 9, 59)
    assert usage["input_tokens_details"]["cached_tokens"] == 30
    assert usage["output_tokens_details"] == {"reasoning_tokens": 4}


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BusyError("no room now"), "rate_limit_exceeded", "no room now"),
        (LimitError("the prompt is too long"), "invalid_prompt", "the prompt is too long"),
    ],
)
def test_failing_closes_what_is_open_and_says_why(error: Exception, code: str, message: str) -> None:
    encoder = ResponseEncoder(id="resp_1", created=0, echo=ECHO)
    wires = encoder.start() + encoder.feed(ContentDelta("a")) + encoder.fail(error)
    check(wires)
    assert kinds(wires)[-2:] == ["output_item.done", "failed"]
    assert wires[-1]["response"]["error"] == {"code": code, "message": message}
    assert (encoder.response["status"], encoder.response["output"][0]["status"]) == ("failed", "incomplete")


def test_an_unforeseen_error_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    encoder = ResponseEncoder(id="resp_1", created=0, echo=ECHO)
    encoder.start()
    told = encoder.fail(ZeroDivisionError("secret"), "req_7")[-1]["response"]["error"]
    assert told["code"] == "server_error"
    assert "secret" not in told["message"]
    assert "req_7" in told["message"]
    assert "secret" in caplog.text


def test_giving_up() -> None:
    encoder = ResponseEncoder(id="resp_1", created=0, echo=ECHO)
    wires = encoder.start() + encoder.feed(ReasoningDelta("a")) + encoder.cancel()
    check(wires)
    assert (wires[-1]["type"], wires[-1]["response"]["status"]) == ("response.failed", "cancelled")
    assert wires[-1]["response"]["error"] is None


def test_progress_is_not_told_and_sources_come_with_the_end() -> None:
    source = Source(file="a.txt", start=3, end=5, text="it", weight=0.5)
    wires, encoder = play([Reading(id="x", done=1, total=2), ContentDelta("a"), end(sources=(source,))])
    assert kinds(wires) == ["created", "in_progress", *TEXT, "completed"]
    assert encoder.response["sources"] == [{"file": "a.txt", "start": 3, "end": 5, "text": "it", "weight": 0.5}]


def test_ids_differ() -> None:
    assert new_id("resp").startswith("resp_")
    assert len({new_id("resp") for _ in range(100)}) == 100
