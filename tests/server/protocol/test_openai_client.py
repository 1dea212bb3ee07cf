"""The official OpenAI client against a real server: what it sends is understood, and it understands what it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import BaseModel

from octavo.server.settings import ServerSettings
from tests.support.serving import SECONDS, serving

ASKED: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Who wrote the page?"}]


class Verdict(BaseModel):
    """An answer in a fixed form."""

    ok: bool
    kind: int


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    settings = ServerSettings(served_name="tiny", api_keys=("secret",), drain_seconds=SECONDS)
    with (
        serving(tmp_path_factory.mktemp("model"), settings) as (address, _),
        openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0, timeout=SECONDS) as made,
    ):
        yield made


def test_chat(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(model="tiny", messages=ASKED, max_completion_tokens=5, temperature=0)
    assert told.choices[0].message.content
    assert told.choices[0].finish_reason == "length"
    assert told.usage is not None
    assert told.usage.completion_tokens == 5
    assert told._request_id


def test_stream_with_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=5, temperature=0)
    steps = list(
        client.chat.completions.create(
            model="tiny",
            messages=ASKED,
            max_tokens=5,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(step.choices[0].delta.content or "" for step in steps if step.choices)
    assert text == whole.choices[0].message.content
    assert steps[0].choices[0].delta.role == "assistant"
    assert steps[-1].usage is not None
    assert steps[-1].usage.completion_tokens == 5


def test_stream_left_early_can_be_followed_by_another_request(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=5000, stream=True) as steps:
        next(iter(steps))
    assert client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=2).choices


def test_logprobs(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(
        model="tiny", messages=ASKED, max_tokens=4, temperature=0, logprobs=True, top_logprobs=2
    )
    assert told.choices[0].logprobs is not None
    content = told.choices[0].logprobs.content
    assert content is not None
    assert [len(one.top_logprobs) for one in content] == [2] * 4


def test_parsed_answer_in_a_json_schema(client: openai.OpenAI) -> None:
    told = client.chat.completions.parse(
        model="tiny", messages=ASKED, max_tokens=400, seed=1, temperature=0, response_format=Verdict
    )
    choice = told.choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, Verdict)
    assert json.loads(choice.message.content or "").keys() == {"ok", "kind"}


def test_tools_are_sent_and_seen_by_the_model(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    plain = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=2)
    offered = client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=2, tools=[tool])  # type: ignore[list-item]
    assert plain.usage is not None
    assert offered.usage is not None
    assert offered.usage.prompt_tokens > plain.usage.prompt_tokens


def test_completions(client: openai.OpenAI) -> None:
    told = client.completions.create(model="tiny", prompt=["The sea", "The page"], max_tokens=3, logprobs=1)
    assert [choice.index for choice in told.choices] == [0, 1]
    assert told.choices[0].logprobs is not None
    steps = client.completions.create(model="tiny", prompt="The sea", max_tokens=3, temperature=0, stream=True)
    text = "".join(step.choices[0].text for step in steps)
    assert (
        text == client.completions.create(model="tiny", prompt="The sea", max_tokens=3, temperature=0).choices[0].text
    )


def test_errors_are_the_clients_own_kinds(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=ASKED)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="tiny", messages=ASKED, temperature=-1)
    assert (wrong.value.param, wrong.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "the sea " * 9000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="other").chat.completions.create(model="tiny", messages=ASKED)
