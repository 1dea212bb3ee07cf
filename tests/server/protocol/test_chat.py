"""POST /v1/chat/completions on a real server: bodies, streams, errors, clients that leave."""

from __future__ import annotations

import json
import queue
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from octavo.config.errors import UsageError
from octavo.engine.answer import Finish, Source
from octavo.engine.llm import LLM
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, JobUsage, Reading
from octavo.engine.texts import Text
from octavo.server.protocol import chat
from octavo.text.chat import encode_chat
from octavo.text.special import Special
from tests.server.test_turn import CALL
from tests.support.serving import SECONDS, Overheard, Scripted, context_over, said, stream_events
from tests.support.tiny_llm import STORY

ASKED = [{"role": "user", "content": "Who wrote the page?"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
SOURCE = Source(file="a.txt", start=1, end=4, text="sea", weight=0.5)


@pytest.fixture(scope="module")
def llm(served: tuple[httpx.Client, Overheard]) -> LLM:
    return served[1].llm


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": ASKED, "max_tokens": 8, "temperature": 0} | fields


def post(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    told = client.post("/v1/chat/completions", json=body(**fields))
    assert told.status_code == 200, told.text
    return told.json()


def stream(client: httpx.Client, **fields: Any) -> list[tuple[str | None, Any]]:
    told = client.post("/v1/chat/completions", json=body(stream=True, **fields))
    assert told.status_code == 200, told.text
    return stream_events(told.text)


def chunks(events: list[tuple[str | None, Any]]) -> list[dict[str, Any]]:
    return [value for name, value in events if name is None and value != "[DONE]"]


def test_prompt_logprobs_are_those_of_the_whole_conversation(served: tuple[httpx.Client, Overheard]) -> None:
    client, service = served
    ids = encode_chat(service.llm.tokenizer, ASKED)
    chances = service.llm.runner.whole_logits(np.array(ids)).double().log_softmax(-1)
    told = post(client, prompt_logprobs=1, n=2)
    first, *rest = told["prompt_logprobs"]
    assert first is None
    assert len(rest) == len(ids) - 1
    for place, one in enumerate(rest):
        assert one[str(ids[place + 1])]["logprob"] == pytest.approx(float(chances[place, ids[place + 1]]), abs=1e-4)
    assert sorted(str(job.prompt_logprobs) for job in service.jobs[-2:]) == ["1", "None"]
    assert "prompt_logprobs" not in post(client)
    for fields in ({"prompt_logprobs": 21}, {"prompt_logprobs": 1, "stream": True}):
        answer = client.post("/v1/chat/completions", json=body(**fields))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt_logprobs")


def scripted(llm: LLM, *texts: str, last: Any = None, before: tuple[Any, ...] = ()) -> TestClient:
    """The route alone over a service that says `texts`."""
    last = last or Ended(id="a", finish=Finish.END, usage=JobUsage(prompt_tokens=9, cached_tokens=4, answer_tokens=5))
    service = Scripted(*before, *said(*texts, tokenizer=llm.tokenizer), last, llm=llm)
    app = FastAPI()
    app.include_router(chat.router(context_over(service)))
    return TestClient(app)


def test_body_has_the_shape_of_the_protocol_and_the_models_own_answer(client: httpx.Client, llm: LLM) -> None:
    told = post(client)
    assert told.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert told["id"].startswith("chatcmpl-")
    assert told["object"] == "chat.completion"
    assert told["model"] == "tiny"
    assert told["system_fingerprint"] == f"fp_{llm.fingerprint[:16]}"
    (choice,) = told["choices"]
    assert choice["index"] == 0
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "length"
    assert choice["message"] == {
        "role": "assistant", "content": llm.chat(ASKED, max_tokens=8).text, "refusal": None
    }  # fmt: skip
    usage = told["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8
    assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == usage["prompt_tokens"]


def test_stream_says_what_the_body_says(client: httpx.Client) -> None:
    whole, events = post(client, logprobs=True), stream(client, logprobs=True, stream_options={"include_usage": True})
    assert events[-1] == (None, "[DONE]")
    *steps, last = chunks(events)
    assert steps[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {step["object"] for step in steps} == {"chat.completion.chunk"}
    assert len({(step["id"], step["created"]) for step in [*steps, last]}) == 1
    assert all(step["usage"] is None for step in steps)
    assert last["choices"] == []
    assert last["usage"].keys() == whole["usage"].keys()
    assert last["usage"]["completion_tokens"] == 8
    text = "".join(step["choices"][0]["delta"].get("content", "") for step in steps)
    assert text == whole["choices"][0]["message"]["content"]
    reasons = [step["choices"][0]["finish_reason"] for step in steps]
    assert reasons == [None] * (len(steps) - 1) + ["length"]
    logprobs = [one for step in steps for one in (step["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert logprobs == whole["choices"][0]["logprobs"]["content"]
    assert len(logprobs) == 8


def test_stream_without_the_option_tells_no_usage(client: httpx.Client) -> None:
    assert not any("usage" in chunk for chunk in chunks(stream(client)))


def test_several_answers_have_seeds_of_their_own(client: httpx.Client) -> None:
    asked = {"n": 3, "seed": 5, "temperature": 1.0}
    told = post(client, **asked)
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in told["choices"]]
    alone = [post(client, seed=5 + n, temperature=1.0)["choices"][0]["message"]["content"] for n in range(3)]
    assert texts == alone
    assert told["usage"]["completion_tokens"] == 24
    streamed = ["", "", ""]
    for chunk in chunks(stream(client, **asked)):
        streamed[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert streamed == texts


def test_top_logprobs_are_sorted_and_hold_the_greedy_token(client: httpx.Client) -> None:
    for one in post(client, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]:
        values = [top["logprob"] for top in one["top_logprobs"]]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert one["bytes"] == one["top_logprobs"][0]["bytes"]
        assert one["logprob"] == values[0] <= 0


def test_stop_string_ends_the_answer_and_is_no_part_of_it(client: httpx.Client) -> None:
    text = post(client)["choices"][0]["message"]["content"]
    stop = text[3:5]
    choice = post(client, stop=[stop])["choices"][0]
    assert choice["message"]["content"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"


def test_answer_is_held_to_a_schema(client: httpx.Client) -> None:
    schema = {
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    choice = post(client, response_format=form, max_tokens=200)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert json.loads(choice["message"]["content"]).keys() == {"ok"}
    assert post(client, guided_regex="[0-9]{4}", max_tokens=50)["choices"][0]["message"]["content"].isdigit()


def test_repeated_prompt_is_found_in_the_cache(client: httpx.Client) -> None:
    asked = {"messages": [{"role": "user", "content": "the sea and the page " * 60}], "cache_salt": "again"}
    first, second = post(client, **asked), post(client, **asked)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_cache_hit_tokens"] >= 256
    assert second["choices"][0]["message"] == first["choices"][0]["message"]


def test_progress_of_a_long_prompt_comes_as_comments(client: httpx.Client) -> None:
    asked = [{"role": "user", "content": "the sea and the page " * 100}]
    comments = [value for name, value in stream(client, messages=asked, cache_salt="p") if name == "comment"]
    assert comments[0].startswith("reading 256/")


def test_reasoning_is_apart_from_content(llm: LLM) -> None:
    with scripted(llm, "It was", f" night.{Special.END_THINK}The", " sea") as client:
        whole = post(client, thinking={"type": "enabled"}, logprobs=True)
        message = whole["choices"][0]["message"]
        assert message["reasoning_content"] == message["reasoning"] == "It was night."
        assert message["content"] == "The sea"
        reasoning = whole["usage"]["completion_tokens_details"]["reasoning_tokens"]
        assert reasoning == len(llm.tokenizer.encode("It was")) + len(llm.tokenizer.encode(" night.")) + 1
        said_tokens = whole["choices"][0]["logprobs"]["content"]
        assert "".join(one["token"] for one in said_tokens) == "The sea"
        deltas = [c["choices"][0]["delta"] for c in chunks(stream(client, thinking={"type": "enabled"}))]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "It was night."
    assert "".join(delta.get("content", "") for delta in deltas) == "The sea"


def test_answer_that_is_all_reasoning_has_empty_content(llm: LLM) -> None:
    with scripted(llm, "It was", last=Ended(id="a", finish=Finish.LENGTH)) as client:
        choice = post(client, reasoning_effort="low")["choices"][0]
    assert choice["message"]["content"] == ""
    assert choice["finish_reason"] == "length"


def test_tool_call_in_a_body_and_in_a_stream(llm: LLM) -> None:
    with scripted(llm, CALL[:40], CALL[40:]) as client:
        choice = post(client, tools=TOOLS)["choices"][0]
        steps = chunks(stream(client, tools=TOOLS))
    (call,) = choice["message"]["tool_calls"]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert call["id"].startswith("call_")
    assert (call["type"], call["function"]) == ("function", {"name": "look", "arguments": '{"at": "the sea"}'})
    deltas = [one for step in steps for one in step["choices"][0]["delta"].get("tool_calls", ())]
    assert deltas[0]["function"] == {"name": "look", "arguments": ""}
    assert deltas[0]["id"].startswith("call_")
    assert {delta["index"] for delta in deltas} == {0}
    assert "".join(delta["function"]["arguments"] for delta in deltas) == '{"at": "the sea"}'
    assert steps[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_call_cut_short_is_no_call_of_a_body(llm: LLM) -> None:
    with scripted(llm, "Yes.", CALL[:-30], last=Ended(id="a", finish=Finish.LENGTH)) as client:
        choice = post(client, tools=TOOLS)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"] == {"role": "assistant", "content": "Yes.", "refusal": None}


def test_only_the_first_call_counts_where_one_is_wanted(llm: LLM) -> None:
    end = CALL.rindex("\n")
    twice = CALL[:end] + CALL[CALL.index("\n", 3) : end] + CALL[end:]
    with scripted(llm, twice) as client:
        assert len(post(client, tools=TOOLS)["choices"][0]["message"]["tool_calls"]) == 2
        one = post(client, tools=TOOLS, parallel_tool_calls=False)["choices"][0]["message"]
        steps = chunks(stream(client, tools=TOOLS, parallel_tool_calls=False))
    assert len(one["tool_calls"]) == 1
    deltas = [call for step in steps for call in step["choices"][0]["delta"].get("tool_calls", ())]
    assert {delta["index"] for delta in deltas} == {0}


def test_sources_come_with_the_message_and_with_the_last_chunk(llm: LLM) -> None:
    ended = Ended(id="a", finish=Finish.END, sources=(SOURCE,))
    expected = [{"file": "a.txt", "start": 1, "end": 4, "text": "sea", "weight": 0.5}]
    with scripted(llm, "The sea", last=ended) as client:
        assert post(client, document="book")["choices"][0]["message"]["sources"] == expected
        assert chunks(stream(client, document="book"))[-1]["choices"][0]["sources"] == expected


def test_document_is_asked_and_its_places_are_told(served: tuple[httpx.Client, Overheard]) -> None:
    client, service = served
    over: queue.Queue[Event] = queue.Queue()
    service.read("reading", "book", [Text(name="book.txt", text=STORY * 20)], over.put)
    while not isinstance(event := over.get(timeout=SECONDS), Ended):
        assert isinstance(event, Reading), event
    told = post(client, document="book")
    sources = told["choices"][0]["message"]["sources"]
    assert sources
    for source in sources:
        assert source["file"] == "book.txt"
        assert source["text"] == (STORY * 20)[source["start"] : source["end"]]
    assert told["usage"]["prompt_cache_hit_tokens"] > 256
    assert "sources" not in post(client, document="book", sources=False)["choices"][0]["message"]
    assert chunks(stream(client, document="book"))[-1]["choices"][0]["sources"] == sources


def test_failure_after_the_start_is_the_last_event(llm: LLM) -> None:
    failed = Failed(id="a", error=UsageError("grammar: no token can go on"))
    with scripted(llm, "The", last=failed, before=(Reading(id="a", done=1, total=2),)) as client:
        events = stream(client)
    assert events[1] == ("comment", "reading 1/2")
    name, value = events[-1]
    assert name == "error"
    assert value["error"]["message"] == "grammar: no token can go on"
    assert (None, "[DONE]") not in events


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "other"}, 404, "model_not_found", None),
        ({"document": "none"}, 404, "not_found", None),
        ({"messages": []}, 400, None, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, None, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            None,
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, 400, "invalid_type", "messages[0].tool_calls"),
        ({"messages": [{"content": "x"}]}, 400, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "user", "content": "the sea " * 9000}]}, 400, "context_length_exceeded", None),
        ({"max_tokens": 0}, 400, None, "max_tokens"),
        ({"temperature": -1}, 400, None, "temperature"),
        ({"priority": 1000}, 400, None, "priority"),
        ({"guided_regex": "("}, 400, None, None),
        ({"tools": [{"type": "function", "function": {"name": "a\nb"}}]}, 400, None, "tools[0].function.name"),
        ({"presence_penalty": 1}, 400, "unsupported", "presence_penalty"),
        ({"sources": True}, 400, None, None),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_wrong_request_is_refused_before_anything_is_sent(
    client: httpx.Client, fields: dict[str, Any], status: int, code: str | None, param: str | None, is_stream: bool
) -> None:
    told = client.post("/v1/chat/completions", json=body(stream=is_stream, **fields))
    assert told.status_code == status, told.text
    error = told.json()["error"]
    assert error["param"] == param
    assert code is None or error["code"] == code


def test_lone_surrogate_and_nan_are_refused(client: httpx.Client) -> None:
    raw = '{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}'
    assert client.post("/v1/chat/completions", content=raw).status_code == 400
    raw = '{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}'
    told = client.post("/v1/chat/completions", content=raw)
    assert told.status_code == 400
    assert told.json()["error"]["param"] == "temperature"


@pytest.mark.parametrize("is_stream", [False, True])
def test_client_that_leaves_cancels_its_job(served: tuple[httpx.Client, Overheard], is_stream: bool) -> None:
    client, service = served
    service.forget_ends()
    raw = json.dumps(body(stream=is_stream, max_tokens=7000, guided_regex="[a-z]{20000}")).encode()
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as raw_client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(raw)}\r\n\r\n"
        raw_client.sendall(head.encode() + raw)
        if is_stream:
            assert raw_client.recv(64).startswith(b"HTTP/1.1 200")
        else:
            assert service.was_submitted.wait(SECONDS)
    end = service.next_end()
    assert isinstance(end, Cancelled)
    assert end.usage.answer_tokens < 7000
