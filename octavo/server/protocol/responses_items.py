"""The input of a stored response as items, for GET /v1/responses/{id}/input_items.

Covers: messages of the conversation as items of the protocol, pages of them. Does not cover: keeping them
(`responses_store`), the items of an answer (`responses_stream`).

The conversation before a response is all of its input, that of the responses it goes on from included. Ids follow from
the response's own and the place, so they are the same whenever they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.server.errors import FieldError

MAX_ITEMS = 100
_USUAL = 20

Item = dict[str, Any]


def items_of(messages: Sequence[dict[str, Any]], id: str) -> list[Item]:
    """The items of a conversation, the oldest first."""
    made: list[Item] = []
    for message in messages:
        made += _items(message)
    rest = id.partition("_")[2]
    return [item | {"id": f"{_PREFIXES[item['type']]}_{rest}{place:04x}"} for place, item in enumerate(made)]


def page_of(items: Sequence[Item], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of items; `query`: limit (1 to 100, 20 by default), order (desc by default), after (an item's id).
    FieldError for what is none of these."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise FieldError(f"order is {order[:40]!r}; it must be asc or desc", param="order")
    given = query.get("limit", str(_USUAL))
    limit = int(given) if given.isascii() and given.isdigit() and len(given) <= 3 else 0
    if not 1 <= limit <= MAX_ITEMS:
        raise FieldError(f"limit is {given[:40]!r}; it must be from 1 to {MAX_ITEMS}", param="limit")
    ordered, after = list(items if order == "asc" else reversed(items)), query.get("after")
    if after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise FieldError(f"after is {after[:80]!r}; no item has that id", param="after")
        ordered = ordered[places[0] + 1 :]
    shown = ordered[:limit]
    ids = [item["id"] for item in shown]
    return {
        "object": "list",
        "data": shown,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": len(ordered) > len(shown),
    }


_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}


def _items(message: dict[str, Any]) -> list[Item]:
    """One message's items: reasoning, then text, then calls."""
    role, texts = message["role"], _texts(message["content"])
    if role == "tool":
        output = {"call_id": message["tool_call_id"], "output": "".join(texts)}
        return [{"type": "function_call_output", "status": "completed"} | output]
    made: list[Item] = []
    if message.get("reasoning_content"):
        part = {"type": "reasoning_text", "text": message["reasoning_content"]}
        made.append({"type": "reasoning", "summary": [], "content": [part]})
    if texts or role != "assistant":
        more = {"annotations": [], "logprobs": []} if role == "assistant" else {}
        kind = "output_text" if role == "assistant" else "input_text"
        content = [{"type": kind, "text": text} | more for text in texts]
        made.append({"type": "message", "role": role, "status": "completed", "content": content})
    for call in message.get("tool_calls", ()):
        named = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        made.append({"type": "function_call", "status": "completed", "call_id": call["id"]} | named)
    return made


def _texts(content: str | Sequence[dict[str, str]]) -> list[str]:
    """The texts of a message's parts; none of an empty string."""
    if isinstance(content, str):
        return [content] if content else []
    return [part["text"] for part in content]
