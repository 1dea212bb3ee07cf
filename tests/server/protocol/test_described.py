"""Schemas of the description: whole, without references, and what they ask for is what routes take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from octavo.server.protocol.anthropic_request import read_request
from octavo.server.protocol.chat_request import ChatBody
from octavo.server.protocol.completions import CompletionBody
from octavo.server.protocol.described import MESSAGES, RESPONSES, described, inlined


class Inner(BaseModel):
    value: int


class Outer(BaseModel):
    one: Inner
    many: list[Inner]


def test_definitions_stand_where_they_are_used() -> None:
    schema = inlined(Outer.model_json_schema())
    value = {"title": "Value", "type": "integer"}
    assert schema["properties"]["one"]["properties"]["value"] == value
    assert schema["properties"]["many"]["items"]["properties"]["value"] == value


@pytest.mark.parametrize("schema", [ChatBody, CompletionBody, MESSAGES, RESPONSES])
def test_bodies_are_whole(schema: Any) -> None:
    told = described(schema)["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(told)
    assert set(told["required"]) <= set(told["properties"])
    assert "model" in told["required"]


def test_what_messages_asks_for_is_what_is_read() -> None:
    least = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    assert set(MESSAGES["required"]) == set(least)
    assert read_request(least).call.request.max_tokens == 1
    for name in least:
        with pytest.raises(Exception, match=name):
            read_request({key: value for key, value in least.items() if key != name})
