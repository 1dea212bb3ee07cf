"""The responses protocol as the official client sees it: over a real model, and over answers that are known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from octavo.config.errors import LimitError
from octavo.engine.answer import Finish
from octavo.engine.serving.events import LATE, Cancelled, Failed
from octavo.engine.serving.service import Service
from octavo.server.protocol import chat
from octavo.server.protocol.responses import router
from octavo.server.protocol.responses_store import ResponseStore
from octavo.text.chat import encode_chat
from tests.support.protocols import scripted, small_app
from tests.support.serving import SECONDS, context_over, listening, running, stream_events, tiny_service

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object"},
    "strict": False,
}
CALL = ('\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">Oslo'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>")  # fmt: skip
ENDLESS: Any = {"type": "array", "items": {"type": "integer"}, "minItems": 4000}
LONG: Any = {"max_output_tokens": 7000, "text": {"format": {"type": "json_schema", "name": "n", "schema": ENDLESS}}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tiny_service(tmp_path_factory.mktemp("model"))) as service:
        yield service


@pytest.fixture(scope="module")
def store() -> ResponseStore:
    return ResponseStore()


@pytest.fixture(scope="module")
def address(service: Service, store: ResponseStore) -> Iterator[str]:
    context = context_over(service)
    with listening(small_app(router(context, store), chat.router(context))) as address:
        yield address


def client_of(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=SECONDS)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with client_of(address) as client:
        yield client


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does, by asking."""
    late = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < late, "it did not come about"
        time.sleep(0.01)


def test_a_response_and_its_stream_say_the_same(client: openai.OpenAI, service: Service) -> None:
    asked: Any = {"model": "tiny", "max_output_tokens": 12, "input": "Hi there", "temperature": 0,
                  "instructions": "Be kind.", "metadata": {"a": "b"}}  # fmt: skip
    whole = client.responses.create(**asked)
    events = list(client.responses.create(**asked, stream=True))
    assert [event.type for event in events[:3]] == [
        "response.created", "response.in_progress", "response.output_item.added"]  # fmt: skip
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    streamed = events[-1].response
    assert streamed.output_text == whole.output_text
    assert streamed.output_text == "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert streamed.status == whole.status
    assert (whole.metadata, whole.instructions, whole.model) == ({"a": "b"}, "Be kind.", "tiny")
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there"}]
    read = len(encode_chat(service.llm.tokenizer, messages))
    for usage in (whole.usage, streamed.usage):
        assert usage is not None
        assert usage.input_tokens == read
        assert 0 < usage.output_tokens <= 12
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_a_response_goes_on_from_another(client: openai.OpenAI, service: Service, store: ResponseStore) -> None:
    asked: Any = {"model": "tiny", "max_output_tokens": 6, "temperature": 0}
    first = client.responses.create(input="One", instructions="Be kind.", **asked)
    second = client.responses.create(input="Two", previous_response_id=first.id, **asked)
    assert second.previous_response_id == first.id
    said = store.find(first.id).history[-1]
    assert said["content"] == first.output_text
    messages = [{"role": "user", "content": "One"}, said, {"role": "user", "content": "Two"}]
    assert second.usage is not None
    assert second.usage.input_tokens == len(encode_chat(service.llm.tokenizer, messages))
    by_hand = client.responses.create(
        input=[{"role": "user", "content": "One"}, *first.output, {"role": "user", "content": "Two"}], **asked
    )
    assert by_hand.output_text == second.output_text
    assert by_hand.usage is not None
    assert by_hand.usage.input_tokens == second.usage.input_tokens
    store.check_integrity()


def test_reading_and_deleting(client: openai.OpenAI) -> None:
    made = client.responses.create(model="tiny", input="Hi", max_output_tokens=2)
    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    for act in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="is not stored"):
            act(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="tiny", input="Hi", previous_response_id=made.id)
    unkept = client.responses.create(model="tiny", input="Hi", max_output_tokens=2, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_the_input_of_a_response_is_told(client: openai.OpenAI, address: str) -> None:
    """That of the responses it goes on from included, the newest item first as the protocol has it."""
    asked: Any = {"model": "tiny", "max_output_tokens": 3, "temperature": 0}
    first = client.responses.create(input="One", instructions="Be brief.", **asked)
    [only] = client.responses.input_items.list(first.id)
    assert (only.type, only.role, only.content[0].text) == ("message", "user", "One")  # type: ignore[union-attr]
    second = client.responses.create(input="Two", previous_response_id=first.id, **asked)
    items = list(client.responses.input_items.list(second.id))
    assert [item.role for item in items] == ["user", "assistant", "user"]  # type: ignore[union-attr]
    assert items[1].content[0].text == first.output_text  # type: ignore[union-attr]
    by_one = list(client.responses.input_items.list(second.id, limit=1, order="asc"))
    assert [item.id for item in by_one] == [item.id for item in reversed(items)]  # type: ignore[union-attr]
    for query in ("limit=0", "limit=x", "order=up", "after=msg_none"):
        refused = httpx.get(f"{address}/v1/responses/{first.id}/input_items?{query}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, query.partition("=")[0])
    with pytest.raises(openai.NotFoundError):
        list(client.responses.input_items.list("resp_none"))


def test_the_input_is_counted(client: openai.OpenAI, service: Service) -> None:
    body: Any = {"model": "tiny", "input": "How many?", "instructions": "Count."}
    counted = client.responses.input_tokens.count(**body)
    made = client.responses.create(max_output_tokens=2, **body)
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_text_comes_with_the_log_probabilities_of_its_tokens(client: openai.OpenAI, stream: bool) -> None:
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=9, temperature=0, logprobs=True,
        top_logprobs=2,
    )  # fmt: skip
    assert chat.choices[0].logprobs is not None
    wanted = [(one.token, one.logprob) for one in chat.choices[0].logprobs.content or ()]
    asked: Any = {"model": "tiny", "input": "Hi", "max_output_tokens": 9, "temperature": 0, "top_logprobs": 2,
                  "include": ["message.output_text.logprobs"]}  # fmt: skip
    deltas, made = list[Any](), None
    if stream:
        for event in client.responses.create(stream=True, **asked):
            if event.type == "response.output_text.delta":
                deltas += event.logprobs
            made = event.response if event.type == "response.incomplete" else made
        assert [(one.token, one.logprob) for one in deltas] == wanted[: len(deltas)]
        assert deltas
    else:
        made = client.responses.create(**asked)
    assert made is not None
    [said] = made.output
    told = said.content[0].logprobs  # type: ignore[union-attr]
    assert [(one.token, one.logprob) for one in told] == wanted  # type: ignore[union-attr]
    assert all(len(one.top_logprobs) == 2 for one in told)  # type: ignore[union-attr]


def test_a_schema_holds_the_answer(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
              "additionalProperties": False}  # fmt: skip
    form: Any = {"format": {"type": "json_schema", "name": "answer", "schema": schema}}
    made = client.responses.create(model="tiny", input="Hi", max_output_tokens=40, temperature=0, text=form)
    assert made.output_text.lstrip().startswith("{")
    assert '"ok"' in made.output_text


def test_a_stream_can_be_cancelled_from_outside(client: openai.OpenAI, service: Service) -> None:
    stream = client.responses.create(model="tiny", input="Hi", stream=True, **LONG)
    events = iter(stream)
    id = next(events).response.id  # type: ignore[union-attr]
    assert client.responses.retrieve(id).status == "in_progress"
    assert client.responses.cancel(id).status == "cancelled"
    last = list(events)[-1]
    assert last.type == "response.failed"
    assert last.response.status == "cancelled"
    assert client.responses.retrieve(id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled; only one that is under way"):
        client.responses.cancel(id)
    with pytest.raises(openai.BadRequestError, match="which is cancelled"):
        client.responses.create(model="tiny", input="Hi", previous_response_id=id)
    until(lambda: service.status().running == 0)


def test_a_whole_response_that_is_cancelled_says_so(
    client: openai.OpenAI, service: Service, store: ResponseStore
) -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(client.responses.create, model="tiny", input="Hi", **LONG)
        until(lambda: bool(store.under_way()))
        (id,) = store.under_way()
        client.responses.cancel(id)
        assert made.result(SECONDS).status == "cancelled"
    assert client.responses.retrieve(id).status == "cancelled"
    until(lambda: service.status().running == 0)


def test_a_client_that_leaves_gives_its_response_up(client: openai.OpenAI, service: Service) -> None:
    stream = client.responses.create(model="tiny", input="Hi", stream=True, **LONG)
    id = next(iter(stream)).response.id  # type: ignore[union-attr]
    stream.close()
    until(lambda: client.responses.retrieve(id).status == "cancelled")
    until(lambda: service.status().running + service.status().waiting == 0)
    service.check_integrity()


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "gpt"}, 404, "model 'gpt' is not served here; this server has 'tiny'"),
        ({"background": True}, 400, "background is not supported"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens is 0; it must be an integer from 1"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type is 'web_search'"),
        ({"previous_response_id": "resp_x"}, 404, "response 'resp_x' is not stored"),
        ({"previous_response_id": 7}, 400, "previous_response_id is 7; it must be a string"),
        ({"input": "a " * 9000}, 400, "the context of this model ends at 8,192"),
        ({"input": "\ud800"}, 400, ""),
        ({"document": "nowhere"}, 404, "nowhere"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "nonsense"}}}}, 400, ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(address: str, fields: dict[str, Any], status: int, message: str, stream: bool) -> None:
    given = {"model": "tiny", "max_output_tokens": 5, "input": "Hi", "stream": stream} | fields
    response = httpx.post(f"{address}/v1/responses", content=json.dumps(given))
    error = response.json()["error"]
    assert response.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b'{"temperature": NaN}', b"[" * 200_000])
def test_bodies_that_are_none(address: str, raw: bytes) -> None:
    response = httpx.post(f"{address}/v1/responses", content=raw)
    assert response.status_code == 400
    assert "the body is" in response.json()["error"]["message"]


def test_what_utf8_cannot_carry_comes_back_escaped(address: str) -> None:
    given = {"model": "tiny", "max_output_tokens": 1, "input": "Hi", "metadata": {"a": "\ud800"}}
    response = httpx.post(f"{address}/v1/responses", content=json.dumps(given))
    assert response.status_code == 200
    assert response.json()["metadata"] == {"a": "\ud800"}


def test_reasoning_text_and_a_tool_round_trip(service: Service) -> None:
    context, jobs = scripted(service.llm, "I ", "see.</think>", "Let me ", "look.", CALL[:40], CALL[40:])
    asked: Any = {"model": "tiny", "tools": [TOOL], "reasoning": {"effort": "low"}}
    with listening(small_app(router(context))) as address, client_of(address) as client:
        whole = client.responses.create(input="Weather?", **asked)
        with client.responses.stream(input="Weather?", **asked) as stream:
            kinds = [event.type for event in stream]
            streamed: Response = stream.get_final_response()
        for made in (whole, streamed):
            thought, said, call = made.output
            assert thought.type == "reasoning"
            assert thought.content
            assert thought.content[0].text == "I see."
            assert said.type == "message"
            assert made.output_text == "Let me look."
            assert call.type == "function_call"
            assert json.loads(call.arguments) == {"city": "Oslo"}
            assert made.usage is not None
            assert made.usage.input_tokens_details.cached_tokens == 30
            assert made.usage.output_tokens_details.reasoning_tokens > 0
        assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 3
        assert kinds[-1] == "response.completed"
        answer: Any = {"type": "function_call_output", "call_id": whole.output[2].call_id, "output": "Snow."}  # type: ignore[union-attr]
        client.responses.create(input=[answer], previous_response_id=whole.id, **asked)
    read = service.llm.tokenizer.decode(list(jobs.jobs[-1].prompt))
    assert "I see.</think>Let me look.\n\n<｜DSML｜tool_calls>" in read
    assert "<tool_result>Snow.</tool_result>" in read


def test_an_answer_that_is_cut_off_can_be_gone_on_from(service: Service) -> None:
    context, _ = scripted(service.llm, "One two", finish=Finish.LENGTH)
    with listening(small_app(router(context))) as address, client_of(address) as client:
        first = client.responses.create(model="tiny", input="Hi")
        assert (first.status, first.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]
        assert (
            client.responses.create(model="tiny", input="Go on", previous_response_id=first.id).output_text == "One two"
        )


def test_an_error_on_the_way_ends_a_stream_and_is_kept(service: Service) -> None:
    context, jobs = scripted(service.llm, "a", over=False)
    jobs.events = (*jobs.events, Failed(id="a", error=LimitError("no page is left")))
    with listening(small_app(router(context))) as address, client_of(address) as client:
        last = list(client.responses.create(model="tiny", input="Hi", stream=True))[-1]
        assert last.type == "response.failed"
        kept = client.responses.retrieve(last.response.id)
        assert kept.error is not None
        assert (kept.status, kept.error.code, kept.error.message) == ("failed", "invalid_prompt", "no page is left")
        with pytest.raises(openai.BadRequestError, match="no page is left"):
            client.responses.create(model="tiny", input="Hi")
    assert not jobs.cancelled


@pytest.mark.parametrize("stream", [True, False])
def test_what_took_too_long_is_kept_as_failed(service: Service, stream: bool) -> None:
    context, jobs = scripted(service.llm, "a", over=False)
    jobs.events = (*jobs.events, Cancelled(id="a", why=LATE))
    store = ResponseStore()
    with listening(small_app(router(context, store))) as address:
        given = {"model": "tiny", "input": "Hi", "stream": stream}
        answer = httpx.post(f"{address}/v1/responses", json=given, timeout=SECONDS)
        assert answer.status_code == (200 if stream else 408)
    [kept] = store._kept.values()
    assert kept.response["status"] == "failed"


def test_leaving_cancels_what_would_never_end(service: Service) -> None:
    for stream in (True, False):
        context, jobs = scripted(service.llm, "a", over=False)
        given = {"model": "tiny", "input": "Hi", "stream": stream}
        with listening(small_app(router(context))) as address, httpx.Client() as client:
            if stream:
                with client.stream("POST", f"{address}/v1/responses", json=given) as response:
                    assert next(response.iter_lines()) == "event: response.created"
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post(f"{address}/v1/responses", json=given, timeout=0.3)
            assert jobs.was_cancelled.wait(SECONDS)
        assert len(jobs.cancelled) == 1


def test_events_have_names(address: str) -> None:
    given = {"model": "tiny", "input": "Hi", "max_output_tokens": 3, "stream": True}
    events = stream_events(httpx.post(f"{address}/v1/responses", json=given).text)
    assert all(name == value["type"] for name, value in events if name != "comment")
