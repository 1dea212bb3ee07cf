"""Schemas of tools cut into their parameters: forms, references, what is raw and what is JSON, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.config.errors import UsageError
from octavo.engine.serving.arguments import Values, object_of

ANY_TEXT = r"/(?s:.*)<\//"
REST = {"type": ["null", "boolean", "number", "array", "object"]}


def split(schema: Any, **root: Any) -> tuple[list[str], dict[str, Any] | None]:
    return Values(root, "tool 'f'").split(schema)


@pytest.mark.parametrize(
    ("schema", "raw", "rest"),
    [
        ({"type": "string", "description": "x"}, [ANY_TEXT], None),
        ({"type": "string", "minLength": 1}, [r"/(?s:.{1,})<\//"], None),
        ({"type": "string", "maxLength": 9}, [r"/(?s:.{0,9})<\//"], None),
        ({"type": "integer"}, [], {"type": "integer"}),
        ({"enum": ["a", "b\n", 3]}, ['"a</"', '"b\\n</"'],
         {"enum": [3], "type": ["string", "null", "boolean", "number", "integer", "array", "object"][1:]}),
        ({"type": "string", "enum": ["a", None]}, ['"a</"'], None),
        ({"const": "a"}, ['"a</"'], None),
        ({"type": ["string", "null"]}, [ANY_TEXT], {"type": ["null"]}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, [ANY_TEXT], {"type": "null"}),
        ({}, [ANY_TEXT], REST),
        (True, [ANY_TEXT], REST),
        ({"type": "string", "pattern": "^a"}, [], {"type": "string", "pattern": "^a"}),
        ({"type": "string", "maxLength": "9"}, [], {"type": "string", "maxLength": "9"}),
    ],
)  # fmt: skip
def test_strings_are_raw_and_all_else_is_json(schema: Any, raw: list[str], rest: Any) -> None:
    assert split(schema) == (raw, rest)


def test_what_a_value_refers_to_comes_with_it() -> None:
    defs = {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}, "name": {"type": "string"}}
    assert split({"$ref": "#/$defs/name", "title": "x"}, **{"$defs": defs}) == ([ANY_TEXT], None)
    raw, rest = split({"$ref": "#/$defs/node"}, **{"$defs": defs})
    assert raw == []
    assert rest is not None
    assert rest["$ref"] == "#/$defs/it"
    inner = rest["$defs"]["it"]["properties"]["next"]["$ref"]
    assert inner == "#/$defs/root/$defs/node"
    assert rest["$defs"]["root"]["$defs"]["node"]["type"] == "object"


def shapes(schema: Any) -> list[tuple[dict[str, Any], set[str]]]:
    return [(dict(one.properties), set(one.required)) for one in object_of(schema, "tool 'f'")]


def test_forms_of_an_object() -> None:
    a, b = {"type": "string"}, {"type": "integer"}
    both = {"properties": {"a": a, "b": b}}
    assert shapes(both | {"type": "object", "required": ["b"]}) == [({"a": a, "b": b}, {"b"})]
    assert shapes(both | {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}) == [
        ({"a": a, "b": b}, {"a"}), ({"a": a, "b": b}, {"b"}),
    ]  # fmt: skip
    assert shapes({"allOf": [{"properties": {"a": a}}, {"properties": {"a": b, "b": b}}]}) == [
        ({"a": {"allOf": [a, b]}, "b": b}, set())
    ]
    assert shapes({"$ref": "#/$defs/x", "$defs": {"x": both}}) == [({"a": a, "b": b}, set())]
    # A part that is closed takes no parameter that only the other one has.
    closed = {"allOf": [{"properties": {"a": a}, "additionalProperties": False}, {"properties": {"b": b}}]}
    assert shapes(closed) == [({"a": a}, set())]
    assert shapes({"required": ["c"], "additionalProperties": b}) == [({"c": b}, {"c"})]
    assert shapes(True) == [({}, set())]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "are no JSON schema of an object"),
        ({"type": "array"}, "are of type 'array'; they must be an object"),
        ({"minProperties": 1}, "minProperties stands at the top of the parameters of tool 'f'"),
        ({"oneOf": [{}]}, "oneOf stands at the top"),
        ({"$ref": "https://example.org/x"}, "it must begin with #/"),
        ({"$ref": "#/$defs/x"}, "there is no such schema"),
        ({"$ref": "#"}, "refers to itself"),
        ({"$ref": "#", "properties": {"a": {}}}, "nested too deep"),
        ({"properties": [], "required": []}, None),
        ({"properties": 5}, "must be an object and a list of names"),
        ({"required": [5]}, "must be an object and a list of names"),
        ({"anyOf": 5}, "anyOf of tool 'f' must be a list"),
        ({"required": ["a"], "additionalProperties": False}, "required names 'a'"),
        ({"allOf": [{"anyOf": [{}, {"required": ["a"]}]}] * 5}, "more than 16 alternatives"),
    ],
)
def test_what_calls_cannot_be_held_to_is_refused(schema: Any, message: str | None) -> None:
    if message is None:
        assert shapes(schema) == [({}, set())]
        return
    with pytest.raises(UsageError, match=message):
        object_of(schema, "tool 'f'")


def test_a_value_that_nothing_satisfies_is_refused() -> None:
    with pytest.raises(UsageError, match="no value satisfies"):
        split({"enum": []})
    with pytest.raises(UsageError, match="a schema that is none"):
        split(5)
    assert shapes({"properties": {"a": False, "b": {}}}) == [({"b": {}}, set())]
