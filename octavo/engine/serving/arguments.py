"""The arguments of a tool, as its JSON schema has them, one parameter at a time.

Covers: which properties a schema has at its top, which of them are needed, the schema of one value on its own, strings
that the chat format writes raw. Does not cover: the markup around values (`calls`), JSON values (llguidance). Loads no
torch.

At the top of a schema stand `properties`, `required`, `additionalProperties`, `$ref`, `allOf` and `anyOf`; what else
would say something about several parameters at once is refused, since a call is written one parameter after another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from octavo.config.errors import UsageError

_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"})
_AT_TOP = frozenset({"type", "properties", "required", "additionalProperties", "$ref", "allOf", "anyOf"})
_ASIDE = _NOTES | {"$defs", "definitions", "$schema", "$id", "strict"}
_TYPES = ("null", "boolean", "number", "integer", "array", "object")
_NOT_STRINGS = {"type": ["null", "boolean", "number", "array", "object"]}
_LENGTHS = frozenset({"minLength", "maxLength"})
_SHAPES = 16  # alternatives of one tool
_DEPTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One form of a tool's arguments. others: the schema of parameters beyond `properties`, False for none; used only
    where there are no properties."""

    properties: Mapping[str, Any]
    required: frozenset[str]
    others: Any
    values: Values


class Values:
    """Values of one tool's parameters; `root` is the whole schema, which references begin at."""

    def __init__(self, root: Mapping[str, Any], where: str) -> None:
        self._root, self.where = root, where

    def split(self, schema: Any) -> tuple[list[str], dict[str, Any] | None]:
        """What a value may be: as a raw string, terminals in llguidance's dialect that end with `</` (none: it may be
        no raw string), and as JSON, a schema that stands alone (None: it may not be JSON).

        A string with a `pattern` or a `format` is JSON too. Raises UsageError where nothing is allowed.
        """
        raw, rest = self._split(schema)
        if not raw and rest is None:
            raise UsageError(f"a parameter of {self.where} has a schema that no value satisfies")
        return list(dict.fromkeys(raw)), None if rest is None else self._alone(rest)

    def resolved(self, schema: Any) -> Any:
        """The schema that a reference names; others as they are. UsageError for one that names nothing."""
        for _ in range(_SHAPES):
            if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
                return schema
            beside = {name: value for name, value in schema.items() if name != "$ref" and name not in _ASIDE}
            if beside:
                return schema
            schema = self.named(schema["$ref"])
        raise UsageError(f"a schema of {self.where} refers to itself")

    def named(self, reference: str) -> Any:
        """The schema that a reference names; UsageError where there is none."""
        found: Any = self._root
        if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
            raise UsageError(f"$ref is {str(reference)[:60]!r} in {self.where}; it must begin with #/")
        for part in reference.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, Mapping) and name in found:
                found = found[name]
            else:
                raise UsageError(f"$ref is {reference[:60]!r} in {self.where}; there is no such schema")
        return found

    def _split(self, schema: Any) -> tuple[list[str], Any]:
        schema = self.resolved(schema)
        if schema is False:
            return [], None
        if schema is True:
            schema = {}
        if not isinstance(schema, Mapping):
            raise UsageError(f"a parameter of {self.where} has a schema that is none")
        if not set(schema) - _ASIDE:
            return [_text({})], _NOT_STRINGS
        said = {name: value for name, value in schema.items() if name not in _ASIDE}
        types = said.get("type")
        if set(said) == {"anyOf"}:
            return self._any_of(_schemas(said, "anyOf", self.where))
        if not set(said) - {"enum", "const", "type"} and ("const" in said or isinstance(said.get("enum"), list)):
            return _listed(said)
        types = [types] if isinstance(types, str) else types
        lengths = {name: value for name, value in said.items() if name != "type"}
        is_plain = set(lengths) <= _LENGTHS and all(type(value) is int and value >= 0 for value in lengths.values())
        if isinstance(types, list) and "string" in types and is_plain:
            rest = [one for one in types if one != "string"]
            return [_text(lengths)], {"type": rest} if rest else None
        return [], schema

    def _any_of(self, branches: list[Any]) -> tuple[list[str], Any]:
        raw, rest = [], []
        for branch in branches:
            texts, other = self._split(branch)
            raw += texts
            rest += [] if other is None else [other]
        return raw, (rest[0] if len(rest) == 1 else {"anyOf": rest}) if rest else None

    def _alone(self, schema: Any) -> dict[str, Any]:
        """The schema with everything that it refers to."""
        if not any(True for _ in _references(schema)):
            return schema
        both = {"root": _moved(self._root), "it": _moved(schema)}
        return {"$defs": both, "$ref": "#/$defs/it"}


def object_of(schema: Any, where: str) -> list[Shape]:
    """The forms that a tool's arguments may have. Raises UsageError for a schema that says more than that."""
    schema = {} if schema is True else schema
    if not isinstance(schema, Mapping):
        raise UsageError(f"the parameters of {where} are no JSON schema of an object")
    values = Values(schema, where)
    return [_shape(form, values) for form in _forms(schema, values, 0)]


def _shape(form: Shape, values: Values) -> Shape:
    """With what is required among the properties, and without those that no value satisfies."""
    properties = {**form.properties, **{name: _of(form, name) for name in form.required}}
    never = [name for name, schema in properties.items() if schema is False]
    lost = sorted(form.required & set(never))
    if lost:
        raise UsageError(f"required names {lost[0]!r} in {values.where}; no value is allowed there")
    return replace(form, properties={name: properties[name] for name in properties if name not in never})


def _forms(schema: Any, values: Values, depth: int) -> list[Shape]:
    """The schema's alternatives, each as properties, required and additionalProperties alone."""
    schema, where = values.resolved(schema), values.where
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        why = "are nested too deep" if depth > _DEPTH else "are no JSON schema of an object"
        raise UsageError(f"the parameters of {where} {why}")
    strange = sorted(set(schema) - _AT_TOP - _ASIDE)
    if strange:
        raise UsageError(f"{strange[0]} stands at the top of the parameters of {where}; a call cannot be held to it")
    if schema.get("type", "object") not in ("object", ["object"]):
        raise UsageError(f"the parameters of {where} are of type {schema['type']!r}; they must be an object")
    properties, required = schema.get("properties") or {}, schema.get("required") or ()
    if not isinstance(properties, Mapping) or not all(isinstance(name, str) for name in required):
        raise UsageError(f"properties and required of {where} must be an object and a list of names")
    others = schema.get("additionalProperties", True)
    forms = [Shape(properties=properties, required=frozenset(required), others=others, values=values)]
    groups = [[values.named(schema["$ref"])]] if "$ref" in schema else []
    groups += [[one] for one in _schemas(schema, "allOf", where)]
    groups += [_schemas(schema, "anyOf", where)] if "anyOf" in schema else []
    for group in groups:
        found = [form for branch in group for form in _forms(branch, values, depth + 1)]
        forms = [_both(one, other) for one in forms for other in found]
        if len(forms) > _SHAPES:
            raise UsageError(f"the parameters of {where} have more than {_SHAPES} alternatives")
    return forms


def _schemas(schema: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = schema.get(name, [])
    if not isinstance(found, list):
        raise UsageError(f"{name} of {where} must be a list of schemas")
    return found


def _both(one: Shape, other: Shape) -> Shape:
    """What satisfies both."""
    names = dict.fromkeys([*one.properties, *other.properties])
    return Shape(
        properties={name: _all_of(_of(one, name), _of(other, name)) for name in names},
        required=one.required | other.required,
        others=_all_of(one.others, other.others),
        values=one.values,
    )


def _of(shape: Shape, name: str) -> Any:
    return shape.properties.get(name, shape.others)


def _all_of(one: Any, other: Any) -> Any:
    if one is False or other is False:
        return False
    if one == other or other in (True, {}):
        return one
    return other if one in (True, {}) else {"allOf": [one, other]}


def _listed(said: Mapping[str, Any]) -> tuple[list[str], Any]:
    """The values of an `enum` or `const`: strings raw, the others as JSON."""
    listed = [said["const"]] if "const" in said else list(said["enum"])
    if "const" in said and "enum" in said:
        listed = [value for value in listed if value in said["enum"]]
    types = said.get("type", ["string", *_TYPES])
    types = [types] if isinstance(types, str) else types
    texts = [json.dumps(f"{one}</", ensure_ascii=False) for one in listed if isinstance(one, str) and "string" in types]
    rest = [one for one in listed if not isinstance(one, str)]
    kept = [one for one in types if one != "string"]
    return texts, {"enum": rest, "type": kept} if rest and kept else None


def _text(lengths: Mapping[str, int]) -> str:
    """The terminal of a raw string of so many characters, and the beginning of the mark behind it."""
    if not lengths:
        return r"/(?s:.*)<\//"
    return rf"/(?s:.{{{lengths.get('minLength', 0)},{lengths.get('maxLength', '')}}})<\//"


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from _references(one)


def _moved(schema: Any) -> Any:
    """The schema as part of another one, its references with it."""
    if isinstance(schema, list):
        return [_moved(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        name: f"#/$defs/root{value[1:]}" if name == "$ref" and isinstance(value, str) else _moved(value)
        for name, value in schema.items()
    }
