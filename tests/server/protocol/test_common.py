"""What both protocols of OpenAI share: strict bodies, limits of sampling, one grammar, log-probabilities, usage."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from starlette.requests import Request as HttpRequest

from octavo.config.errors import LimitError
from octavo.engine.answer import Finish
from octavo.engine.request import Request
from octavo.engine.serving.events import Ended, JobUsage, Token
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import CancelledJob, FieldError
from octavo.server.protocol.common import (
    Sampling,
    attended,
    check_count,
    check_neutral,
    finish_reason,
    grammar_of,
    parsed,
    sampling_request,
    shown_token,
    token_logprob,
    usage,
)
from octavo.server.settings import ServerSettings
from tests.support.serving import SECONDS, Scripted, context_over

CONTEXT = context_over(Scripted(), settings=ServerSettings(max_n=4))


def http(raw: bytes, *, leave: asyncio.Event | None = None) -> HttpRequest:
    """A request of that body; its client leaves when `leave` is set, otherwise never."""
    waiting = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return HttpRequest({"type": "http", "method": "POST", "headers": []}, receive)


def read(raw: bytes | dict[str, Any], kind: type[Sampling] = Sampling) -> Sampling:
    text = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return asyncio.run(parsed(http(text), kind, CONTEXT))


def sampling(**fields: Any) -> Sampling:
    return read({"model": "tiny"} | fields)


@pytest.mark.parametrize(
    ("raw", "param", "message"),
    [
        (b"{", None, "the body is not JSON"),
        (b"", None, "the body is not JSON"),
        (b"[1]", None, "the body is"),
        (b"{}", "model", "model is missing"),
        (b'{"model": 3}', "model", "model is 3; it must be a valid string"),
        (b'{"model": "m", "temperature": "0.5"}', "temperature", "temperature is '0.5'"),
        (b'{"model": "m", "temperature": NaN}', "temperature", "finite"),
        (b'{"model": "m", "top_p": 1e999}', "top_p", "finite"),
        (b'{"model": "m", "max_tokens": 2.5}', "max_tokens", "max_tokens is 2.5"),
        (b'{"model": "m", "max_tokens": true}', "max_tokens", "max_tokens is True"),
        (b'{"model": "m", "stop": ["a", 7]}', "stop[1]", "stop[1] is 7"),
        (b'{"model": "m", "stop": {"a": 1}}', "stop", "stop is {'a': 1}"),
        (b'{"model": "m", "stream_options": {"include_usage": 1}}', "stream_options.include_usage", "is 1"),
        (b'{"model": "m", "logit_bias": {"5": "x"}}', "logit_bias.5", "is 'x'"),
        (b'{"model": "\\ud800"}', None, "the body is not JSON"),
        (b'{"model": ' + b"[" * 1000 + b"]" * 1000 + b"}", None, "the body is not JSON"),
    ],
)
def test_body_that_is_wrong_names_the_field(raw: bytes, param: str | None, message: str) -> None:
    with pytest.raises(FieldError) as told:
        read(raw)
    assert told.value.param == param
    assert message in str(told.value)
    assert len(str(told.value)) < 250


def test_unknown_fields_and_nulls_are_ignored() -> None:
    asked = sampling(user="me", metadata={"a": "b"}, store=True, temperature=None, stop=None, n=None)
    assert asked == sampling()
    assert asked.count == 1


def test_large_body_is_read_too() -> None:
    assert read({"model": "m", "stop": "x" * 2_000_000}).stop == "x" * 2_000_000


def test_sampling_becomes_a_request_with_the_defaults_of_the_protocol() -> None:
    assert sampling_request(sampling(), 9) == Request(max_tokens=9, temperature=1.0)
    given = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3}
    assert sampling_request(sampling(stop="x", **given), 9) == Request(max_tokens=9, stop="x", **given)
    assert sampling_request(sampling(stop=["x", "y"], top_k=-1), 9).stop == ("x", "y")
    assert sampling_request(sampling(top_k=-1), 9).top_k is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"stop": ["x"] * 17}, "stop"), ({"stop": "x" * 1025}, "stop")],
)
def test_stop_strings_have_limits(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(FieldError) as told:
        sampling_request(sampling(**fields), 9)
    assert told.value.param == param


@pytest.mark.parametrize("fields", [{"temperature": -1.0}, {"top_p": 0}, {"min_p": 2}, {"seed": -1}, {"top_k": -2}])
def test_sampling_out_of_range_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(LimitError, match=f"{next(iter(fields))} is"):
        sampling_request(sampling(**fields), 9)


def test_neutral_penalties_pass_and_others_are_refused() -> None:
    check_neutral(sampling(frequency_penalty=0, presence_penalty=0.0, repetition_penalty=1, logit_bias={"5": 0}))
    for name, value in {"frequency_penalty": 0.5, "presence_penalty": -1, "repetition_penalty": 1.1}.items():
        with pytest.raises(FieldError, match=f"{name} is .*not supported") as told:
            check_neutral(sampling(**{name: value}))
        assert told.value.param == name
    with pytest.raises(FieldError, match="logit_bias"):
        check_neutral(sampling(logit_bias={"5": 1}))


def test_answers_of_a_request_are_limited() -> None:
    check_count(sampling(n=4), CONTEXT)
    check_count(sampling(n=2), CONTEXT, prompts=2)
    for n in (0, 5, 1_000_000):
        with pytest.raises(FieldError, match="n is"):
            check_count(sampling(n=n), CONTEXT)
    with pytest.raises(FieldError, match="3 prompts with n 2"):
        check_count(sampling(n=2), CONTEXT, prompts=3)


def test_every_spelling_of_a_grammar_is_understood() -> None:
    schema = {"type": "object"}
    expected = Grammar(kind=GrammarKind.SCHEMA, source=json.dumps(schema))
    assert grammar_of(sampling()) is None
    assert grammar_of(sampling(guided_json=schema)) == expected
    assert grammar_of(sampling(guided_json=json.dumps(schema))) == expected
    assert grammar_of(sampling(structured_outputs={"json": schema})) == expected
    regex = Grammar(kind=GrammarKind.REGEX, source="a+")
    assert grammar_of(sampling(guided_regex="a+")) == regex
    assert grammar_of(sampling(structured_outputs={"regex": "a+"})) == regex
    lark = Grammar(kind=GrammarKind.LARK, source='start: "a"')
    assert grammar_of(sampling(guided_grammar='start: "a"')) == grammar_of(sampling(grammar='start: "a"')) == lark
    with pytest.raises(FieldError, match="guided_regex and grammar are given"):
        grammar_of(sampling(guided_regex="a", grammar='start: "a"'))


def test_finish_reasons_are_the_protocols_words() -> None:
    assert [finish_reason(finish) for finish in Finish] == ["stop", "stop", "length", "length"]


def test_token_logprob_has_text_bytes_and_alternatives() -> None:
    token = Token(id=9, text="é".encode(), logprob=-0.5, top=((9, "é".encode(), -0.5), (4, b"\xc3", -math.inf)))
    assert token_logprob(token) == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "bytes:\\xc3", "logprob": -9999.0, "bytes": [195]},
        ],
    }
    assert shown_token(b"a") == "a"


def test_usage_counts_every_prompt_once() -> None:
    def ended(read: int, cached: int, made: int) -> Ended:
        return Ended(
            id="a", finish=Finish.END, usage=JobUsage(prompt_tokens=read, cached_tokens=cached, answer_tokens=made)
        )

    found = usage([ended(10, 0, 1), ended(10, 8, 2), ended(20, 5, 3), ended(20, 16, 4)], prompts=2, reasoning_tokens=3)
    assert found == {
        "prompt_tokens": 30,
        "completion_tokens": 10,
        "total_tokens": 40,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
        "prompt_cache_hit_tokens": 5,
        "prompt_cache_miss_tokens": 25,
    }


def test_work_ends_with_its_result_or_its_error_while_the_client_stays() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise FieldError("no")

    async def run(work: Any) -> int:
        asked = http(b"")
        await asked.body()
        return await attended(asked, work)

    assert asyncio.run(run(good())) == 7
    with pytest.raises(FieldError, match="no"):
        asyncio.run(run(bad()))


def test_work_is_cancelled_when_the_client_leaves() -> None:
    async def run() -> bool:
        leave, cancelled = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                leave.set()
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        asked = http(b"", leave=leave)
        await asked.body()
        with pytest.raises(CancelledJob, match="went away"):
            await asyncio.wait_for(attended(asked, work()), SECONDS)
        return cancelled.is_set()

    assert asyncio.run(run())
