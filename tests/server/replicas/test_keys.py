"""Requests about the same have keys in common, the strongest first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octavo.server.replicas.keys import EVEN_UP_TO, MAX_KEYS, MIN_CHARACTERS, keys_of

CHAT = "/v1/chat/completions"


def keys(path: str = CHAT, **body: Any) -> tuple[str, ...]:
    return keys_of(path, json.dumps({"model": "m", "temperature": 1} | body).encode())


def say(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]


def test_a_second_turn_knows_the_first_by_its_longest_beginning() -> None:
    first = keys(messages=say("a" * 700))
    second = keys(messages=say("a" * 700, "yes", "and?"), temperature=0, stream=True)
    assert first[0] in second
    assert second.index(first[0]) == len(second) - len(first)
    assert not set(first) & set(keys(messages=say("b" * 700)))


def test_prompts_share_the_steps_of_a_long_beginning() -> None:
    text = "".join(f"{i} " for i in range(40_000))
    one, other = keys(messages=say(text + "Who?")), keys(messages=say(text + "When?"))
    shared = [key for key in one if key in other]
    assert shared == list(one[1:])  # all but the whole of it
    assert len(one) < MAX_KEYS
    assert len(keys("/v1/completions", prompt="x" * (EVEN_UP_TO * 4))) == EVEN_UP_TO // 2048 + 2


def test_what_is_too_short_to_be_kept_has_no_key() -> None:
    assert keys(messages=say("You are kind.", "hi")) == ()
    assert keys("/v1/completions", prompt="x" * (MIN_CHARACTERS - 1)) == ()
    assert len(keys("/v1/completions", prompt="x" * MIN_CHARACTERS)) == 1


@pytest.mark.parametrize("other", [{"cache_salt": "s"}, {"tools": [{"name": "t"}]}, {"document": "d"}])
def test_roots_share_nothing(other: dict[str, Any]) -> None:
    assert not set(keys(messages=say("a" * 700))) & set(keys(messages=say("a" * 700), **other))


def test_every_protocol_has_its_prompt() -> None:
    text = "a" * 700
    for body in ({"prompt": text}, {"prompt": [1] * 700}, {"input": text}, {"input": say(text)},
                 {"system": text, "messages": []}, {"instructions": text, "input": "x"}):  # fmt: skip
        assert keys(**body)


def test_documents_and_responses_come_first() -> None:
    assert keys_of("/v1/documents/a%20b/ask", b"") == ("document:a b",)
    assert keys_of("/v1/documents/tale", b"") == keys_of("/v1/documents/tale/fold", b"{}") == ("document:tale",)
    assert keys("/v1/documents", name="tale", text="x") == ("document:tale",)
    assert keys_of("/v1/responses/resp_1/cancel", b"") == ("response:resp_1",)
    counted = b'{"input": "x", "previous_response_id": "resp_1"}'
    assert keys_of("/v1/responses/input_tokens", counted)[0] == "response:resp_1"
    found = keys("/v1/responses", document="tale", previous_response_id="resp_1", input="a" * 700)
    assert found[:2] == ("response:resp_1", "document:tale")
    assert found[2].startswith("prompt:")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"messages": 3}', b"[" * 100_000, b'{"prompt": null}',
                                  b'{"document": 3, "messages": [null, 7, {}]}'])  # fmt: skip
def test_what_is_not_understood_has_none(body: bytes) -> None:
    assert keys_of(CHAT, body) == ()


def test_lone_surrogates_are_no_obstacle() -> None:
    assert len(keys("/v1/completions", prompt="\ud800" * MIN_CHARACTERS)) == 1
