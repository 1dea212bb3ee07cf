"""The messages protocol as the official client sees it: over a real model, and over answers that are known."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx
import pytest

from octavo.config.errors import LimitError
from octavo.engine.answer import Finish
from octavo.engine.serving.events import Cancelled, Ended, Failed
from octavo.engine.serving.service import Service
from octavo.engine.texts import Text
from octavo.server.protocol.anthropic import router
from octavo.text.chat import encode_chat
from tests.support.protocols import scripted, small_app
from tests.support.serving import SECONDS, context_over, listening, running, stream_events, tiny_service
from tests.support.tiny_llm import STORY

HI: Any = [{"role": "user", "content": "Hi there"}]
COLD = {"temperature": 0}  # the client has no argument for it
TOOL: Any = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object", "properties": {}}}
CALL = ('\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">Oslo'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>")  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tiny_service(tmp_path_factory.mktemp("model"))) as service:
        yield service


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with listening(small_app(router(context_over(service, aliases=("claude-test",))))) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=0, timeout=SECONDS) as client:
        yield client


@pytest.fixture
def said(service: Service, request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    """A client of a server whose every answer is the texts of the parameter."""
    context, _ = scripted(service.llm, *request.param)
    with (
        listening(small_app(router(context))) as address,
        anthropic.Anthropic(base_url=address, api_key="none", max_retries=0, timeout=SECONDS) as client,
    ):
        yield client


def until(condition: Any) -> None:
    """Wait for what another thread does, by asking."""
    late = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < late, "it did not come about"
        time.sleep(0.01)


def test_a_message_and_its_stream_say_the_same(client: anthropic.Anthropic, service: Service) -> None:
    asked: Any = {"model": "tiny", "max_tokens": 12, "messages": HI, "system": "Be kind.", "extra_body": COLD}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream if event.type in ("message_start", "message_delta", "message_stop")]
        streamed = stream.get_final_message()
    assert kinds == ["message_start", "message_delta", "message_stop"]
    assert [block.text for block in streamed.content] == [block.text for block in whole.content]  # type: ignore[union-attr]
    assert whole.stop_reason == streamed.stop_reason
    assert whole.stop_reason in ("max_tokens", "end_turn")
    assert whole.id.startswith("msg_")
    assert whole.id != streamed.id
    assert (whole.model, whole.role) == ("tiny", "assistant")
    messages = [{"role": "system", "content": "Be kind."}, *HI]
    read = len(encode_chat(service.llm.tokenizer, messages))
    for usage in (whole.usage, streamed.usage):
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == read
        assert 0 < usage.output_tokens <= 12
        assert usage.cache_creation_input_tokens == 0


def test_a_long_prompt_is_read_once(client: anthropic.Anthropic) -> None:
    long: Any = [{"role": "user", "content": "The keeper wrote the date. " * 120}]
    asked: Any = {"model": "tiny", "max_tokens": 2, "messages": long}
    first, second = (client.messages.create(**asked, extra_body=COLD) for _ in range(2))
    total = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    assert (second.usage.cache_read_input_tokens or 0) >= 256
    assert second.usage.input_tokens + (second.usage.cache_read_input_tokens or 0) == total
    apart = client.messages.create(**asked, extra_body=COLD | {"cache_salt": "other"})
    assert apart.usage.cache_read_input_tokens == 0


def test_counting(client: anthropic.Anthropic, service: Service) -> None:
    counted = client.messages.count_tokens(model="tiny", messages=HI, tools=[TOOL], system="Be kind.")
    function = {"name": "weather", "parameters": TOOL["input_schema"], "description": "Tells it."}
    messages = [{"role": "system", "content": "Be kind."}, *HI]
    tools = [{"type": "function", "function": function}]
    assert counted.input_tokens == len(encode_chat(service.llm.tokenizer, messages, tools=tools))


def test_a_document_counts_and_gives_sources(client: anthropic.Anthropic, service: Service) -> None:
    over = threading.Event()
    service.read(
        "reading",
        "story",
        [Text(name="story.txt", text=STORY * 8)],
        lambda event: over.set() if is_last(event) else None,
    )
    assert over.wait(SECONDS)
    about: Any = {"document": "story"}
    tokens = service.library.info("story").tokens
    plain = client.messages.count_tokens(model="tiny", messages=HI).input_tokens
    counted = client.messages.count_tokens(model="tiny", messages=HI, extra_body=about).input_tokens
    assert counted == tokens + plain - 1  # the document has the BOS
    message = client.messages.create(model="tiny", max_tokens=4, messages=HI, extra_body=about | COLD)
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == counted
    sources: Any = message.to_dict()["sources"]
    assert {source["file"] for source in sources} == {"story.txt"}
    assert all(source["text"] == (STORY * 8)[source["start"] : source["end"]] for source in sources)
    without = client.messages.create(model="tiny", max_tokens=4, messages=HI, extra_body=about | {"sources": False})
    assert "sources" not in without.to_dict()


def is_last(event: object) -> bool:
    assert not isinstance(event, Failed | Cancelled)
    return isinstance(event, Ended)


def test_a_schema_holds_the_answer(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
              "additionalProperties": False}  # fmt: skip
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    message = client.messages.create(model="tiny", max_tokens=40, messages=HI, output_config=config)
    text = "".join(block.text for block in message.content if block.type == "text")
    assert text.lstrip().startswith("{")
    assert '"ok"' in text


@pytest.mark.parametrize("said", [("I ", "see.</think>Let me ", "look.", CALL[:40], CALL[40:])], indirect=True)
def test_thinking_text_and_a_tool_round_trip(said: anthropic.Anthropic) -> None:
    asked: Any = {"model": "tiny", "max_tokens": 99, "tools": [TOOL],
                  "thinking": {"type": "enabled", "budget_tokens": 50}}  # fmt: skip
    whole = said.messages.create(messages=HI, **asked)
    with said.messages.stream(messages=HI, **asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        thinking, text, call = message.content
        assert thinking.type == "thinking"
        assert thinking.thinking == "I see."
        assert thinking.signature
        assert text.type == "text"
        assert text.text == "Let me look."
        assert call.type == "tool_use"
        assert (call.name, call.input) == ("weather", {"city": "Oslo"})
        assert message.stop_reason == "tool_use"
        assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (20, 30)
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3
    assert {"thinking", "signature", "text", "input_json"} <= set(kinds)
    call_id = whole.content[2].id  # type: ignore[union-attr]
    result: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": "Snow."}]}
    answered = said.messages.create(messages=[*HI, {"role": "assistant", "content": whole.content}, result], **asked)
    assert answered.content[1].text == "Let me look."  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "status", "kind", "message"),
    [
        ({"model": "gpt"}, 404, "not_found_error", "model 'gpt' is not served here; this server has 'tiny'"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens is 0; it must be an integer from 1"),
        ({"temperature": -2}, 400, "invalid_request_error", "temperature is -2; it must be a finite number from 0"),
        ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "tool_choice asks for a call; tools are"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "invalid_request_error",
         "messages[0].content[0].type is 'image'"),
        ({"messages": [{"role": "user", "content": "a " * 9000}]}, 400, "invalid_request_error",
         "the context of this model ends at 8,192"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "invalid_request_error", ""),
        ({"extra_body": {"document": "nowhere"}}, 404, "not_found_error", "nowhere"),
        ({"extra_body": {"document": "../../etc/passwd"}}, 400, "invalid_request_error", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(address: str, fields: dict[str, Any], status: int, kind: str, message: str, stream: bool) -> None:
    given: Any = {"model": "tiny", "max_tokens": 5, "messages": HI, "stream": stream} | fields
    extra = given.pop("extra_body", {})
    response = httpx.post(f"{address}/v1/messages", content=json.dumps(given | extra))
    told = response.json()
    assert (response.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert message in told["error"]["message"]
    assert told["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]


def test_the_client_knows_the_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="gpt", max_tokens=5, messages=HI)
    assert caught.value.request_id
    answered = client.messages.with_raw_response.create(model="claude-test", max_tokens=1, messages=HI)
    assert answered.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1]", b'"a"', b"\xff", b'{"max_tokens": NaN}', b"[" * 200_000, b'{"temperature": 1e999}']
)
def test_bodies_that_are_none(address: str, raw: bytes) -> None:
    for path in ("v1/messages", "v1/messages/count_tokens"):
        response = httpx.post(f"{address}/{path}", content=raw)
        assert response.status_code == 400
        assert "the body is" in response.json()["error"]["message"]


def test_leaving_a_stream_gives_its_pages_back(client: anthropic.Anthropic, service: Service) -> None:
    for _ in range(3):
        stream = client.messages.create(model="tiny", max_tokens=7000, messages=HI, stream=True)
        assert next(iter(stream)).type == "message_start"
        stream.close()
    until(lambda: service.status().running + service.status().waiting == 0)
    service.check_integrity()


def test_leaving_cancels_what_would_never_end(service: Service) -> None:
    for stream in (True, False):
        context, jobs = scripted(service.llm, "a", over=False)
        given = {"model": "tiny", "max_tokens": 9, "messages": HI, "stream": stream}
        with listening(small_app(router(context))) as address, httpx.Client() as client:
            if stream:
                with client.stream("POST", f"{address}/v1/messages", json=given) as response:
                    assert next(response.iter_lines()) == "event: message_start"
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post(f"{address}/v1/messages", json=given, timeout=0.3)
            assert jobs.was_cancelled.wait(SECONDS)
        assert len(jobs.cancelled) == 1


def test_a_silent_stream_gets_pings(service: Service) -> None:
    context, _ = scripted(service.llm, over=False)
    given = {"model": "tiny", "max_tokens": 9, "messages": HI, "stream": True}
    quick = replace(context, settings=SimpleNamespace(keep_alive_seconds=0.05))
    with (
        listening(small_app(router(quick))) as address,
        httpx.stream("POST", f"{address}/v1/messages", json=given) as response,
    ):
        text = ""
        for piece in response.iter_text():
            text += piece
            if text.count("event: ping") == 2:
                break
    events = stream_events(text[: text.rindex("\n\n")])
    assert [name for name, _ in events] == ["message_start", "ping", "ping"]
    assert events[1][1] == {"type": "ping"}


def test_an_error_on_the_way_is_the_last_event(service: Service) -> None:
    context, jobs = scripted(service.llm, "a", over=False)
    jobs.events = (*jobs.events, Failed(id="job", error=LimitError("no page is left")))
    with (
        listening(small_app(router(context))) as address,
        anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as client,
    ):
        stream = client.messages.create(model="tiny", max_tokens=9, messages=HI, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="no page is left"):
            list(stream)
        with pytest.raises(anthropic.BadRequestError, match="no page is left"):
            client.messages.create(model="tiny", max_tokens=9, messages=HI)
    assert not jobs.cancelled


def test_a_stop_sequence_is_named(service: Service) -> None:
    context, jobs = scripted(service.llm, "One", finish=Finish.STOP)
    jobs.events = (jobs.events[0], Ended(id="job", finish=Finish.STOP, stop="Two"))
    with (
        listening(small_app(router(context))) as address,
        anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as client,
    ):
        message = client.messages.create(model="tiny", max_tokens=9, messages=HI, stop_sequences=["Two"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Two")
