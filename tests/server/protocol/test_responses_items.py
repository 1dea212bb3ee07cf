"""Conversations as items, and pages of them."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.server.errors import FieldError
from octavo.server.protocol.responses_items import items_of, page_of
from octavo.server.protocol.responses_request import read_request

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "Oslo"}, {"type": "text", "text": "?"}]},
    {"role": "assistant", "content": "Well.", "reasoning_content": "Hm.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Rain."}]},
    {"role": "assistant", "content": "", "reasoning_content": ""},
]


def test_a_conversation_as_items_that_are_read_as_it() -> None:
    items = items_of(TALK, "resp_abc")
    kinds = ["message", "message", "reasoning", "message", "function_call", "function_call_output"]
    assert [item["type"] for item in items] == kinds
    assert len({item["id"] for item in items}) == len(items)
    assert items == items_of(TALK, "resp_abc")
    again = read_request({"model": "tiny", "input": items}).history
    assert [message["role"] for message in again] == ["system", "user", "assistant", "tool"]
    assert again[1]["content"] == TALK[1]["content"]
    assert again[2]["tool_calls"] == [CALL]
    assert again[2]["reasoning_content"] == "Hm."


def test_pages_go_through_all_items_once() -> None:
    items = items_of(TALK, "resp_abc")
    for order, wanted in (("asc", items), ("desc", items[::-1])):
        found, query = list[Any](), {"limit": "4", "order": order}
        while True:
            page = page_of(items, query)
            found += page["data"]
            if not page["has_more"]:
                break
            query |= {"after": page["last_id"]}
        assert found == wanted
    assert page_of([], {}) == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert page_of(items, {})["data"] == items[::-1]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": "101"}, "limit is '101'; it must be from 1 to 100"),
        ({"limit": "\u0663"}, "limit is"),
        ({"order": "down"}, "order is 'down'; it must be asc or desc"),
        ({"after": "msg_0"}, "after is 'msg_0'; no item has that id"),
    ],
)
def test_what_is_no_page(query: dict[str, str], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        page_of(items_of(TALK, "resp_abc"), query)
