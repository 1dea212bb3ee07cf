"""What bodies look like, for the description at /openapi.json.

Covers: schemas of bodies that the routes read themselves: from their pydantic types, and by hand where the fields are
read one by one. Does not cover: checking a body, which is the routes' own and stricter.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_TEXT = {"type": "string"}
_TEXT_OR_PARTS = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}]}
_SHARED: dict[str, Any] = {
    "model": _TEXT,
    "stream": {"type": "boolean"},
    "temperature": {"type": "number", "minimum": 0},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "tools": {"type": "array", "items": {"type": "object"}},
    "tool_choice": {},
    "metadata": {"type": "object"},
    "document": _TEXT,
    "sources": {"type": "boolean"},
    "quote": {"type": "boolean"},
    "cache_salt": _TEXT,
}
_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": {"enum": ["user", "assistant"]}, "content": _TEXT_OR_PARTS},
}
MESSAGES: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages", "max_tokens"],
    "properties": _SHARED
    | {
        "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
        "system": _TEXT_OR_PARTS,
        "max_tokens": {"type": "integer", "minimum": 1},
        "stop_sequences": {"type": "array", "items": _TEXT},
        "top_k": {"type": "integer", "minimum": 1},
        "thinking": {"type": "object"},
    },
}
RESPONSES: dict[str, Any] = {
    "type": "object",
    "required": ["model", "input"],
    "properties": _SHARED
    | {
        "input": _TEXT_OR_PARTS,
        "instructions": _TEXT,
        "previous_response_id": _TEXT,
        "max_output_tokens": {"type": "integer", "minimum": 1},
        "store": {"type": "boolean"},
        "text": {"type": "object"},
        "reasoning": {"type": "object"},
    },
}


def described(schema: dict[str, Any] | type[BaseModel]) -> dict[str, Any]:
    """What a route adds to the description of itself: its body is JSON of this schema."""
    whole = schema if isinstance(schema, dict) else inlined(schema.model_json_schema())
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole}}}}


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of pydantic's with its definitions put where they are referred to; none of them refers to itself."""
    known = schema.get("$defs", {})

    def put(value: Any) -> Any:
        if isinstance(value, list):
            return [put(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return put(known[value["$ref"].rsplit("/", 1)[-1]])
        return {key: put(one) for key, one in value.items() if key != "$defs"}

    return put(schema)
