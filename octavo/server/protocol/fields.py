"""Reading a request's JSON object field by field.

Covers: the types and limits of single fields, and messages that name the field, its value and what was expected. Does
not cover: which fields a protocol has. A field that is null counts as absent. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.server.errors import FieldError

_SHOWN = 60  # characters of a bad value that a message repeats


class Fields:
    """A JSON object and the place where it stands; every reader raises FieldError for a value of the wrong kind."""

    def __init__(self, value: object, where: str = "") -> None:
        """`where`: the path of the object in the body, empty for the body itself."""
        if not isinstance(value, Mapping):
            raise FieldError(f"{where or 'the body'} is {kind_of(value)}; it must be an object", param=where or None)
        self._value, self.where = value, where

    def path(self, name: str) -> str:
        """The full name of a field."""
        return f"{self.where}.{name}" if self.where else name

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._value.get(name) is not None

    def raw(self, name: str) -> Any:
        """The value as it came, None where absent."""
        return self._value.get(name)

    def refusal(self, name: str, expected: str) -> FieldError:
        """The error for a field whose value is not as `expected` says."""
        path = self.path(name)
        return FieldError(f"{path} is {shown(self._value.get(name))}; it must be {expected}", param=path)

    def unsupported(self, name: str, reason: str) -> None:
        """Refuse the field wherever it asks for anything (absent, null, false and empty values do not)."""
        if self._value.get(name):
            raise FieldError(f"{self.path(name)} is not supported: {reason}", param=self.path(name))

    def text(self, name: str, default: str | None = None) -> str | None:
        """A string, `default` where absent."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refusal(name, "a string")
        return value

    def needed_text(self, name: str) -> str:
        """A string that has to be there; it may be empty."""
        value = self.text(name)
        if value is None:
            raise self.refusal(name, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings, empty where absent."""
        value = self._value.get(name) or ()
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.refusal(name, "an array of strings")
        return tuple(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false, `default` where absent."""
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def whole(self, name: str, *, least: int = 1) -> int | None:
        """An integer from `least`, None where absent."""
        value = self._value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.refusal(name, f"an integer from {least}")
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """One of some strings; without `default` the field has to be there."""
        value = self._value.get(name, default)
        value = default if value is None else value
        if not isinstance(value, str) or value not in allowed:
            raise self.refusal(name, " or ".join(repr(word) for word in allowed))
        return value

    def object(self, name: str) -> Fields | None:
        """An object, None where absent."""
        value = self._value.get(name)
        return None if value is None else Fields(value, self.path(name))

    def needed_object(self, name: str) -> Fields:
        """An object that has to be there."""
        return Fields(self._value.get(name), self.path(name))

    def objects(self, name: str) -> list[Fields]:
        """An array of objects, empty where absent."""
        value = self._value.get(name)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise self.refusal(name, "an array of objects")
        return [Fields(item, f"{self.path(name)}[{place}]") for place, item in enumerate(value)]

    @property
    def value(self) -> dict[str, Any]:
        """The object itself, as a copy."""
        return dict(self._value)


def shown(value: object) -> str:
    """A value as a message repeats it: not more than its beginning, containers by their kind."""
    if value is None or isinstance(value, dict | list):
        return kind_of(value)
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def kind_of(value: object) -> str:
    """What JSON calls the type of a value, with its article."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "a string", int: "a number", float: "a number", list: "an array", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
