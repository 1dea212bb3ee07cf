"""Fields of a request: each kind is read or refused with its path, its value and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from octavo.server.errors import FieldError
from octavo.server.protocol.fields import Fields, kind_of, shown


@pytest.mark.parametrize(
    ("value", "read", "message"),
    [
        (3, lambda f: f.text("x"), "body.x is 3; it must be a string"),
        (None, lambda f: f.needed_text("x"), "body.x is missing; it must be a string"),
        (["a", 1], lambda f: f.texts("x"), "body.x is an array; it must be an array of strings"),
        ("yes", lambda f: f.flag("x"), "body.x is 'yes'; it must be true or false"),
        (0, lambda f: f.whole("x"), "body.x is 0; it must be an integer from 1"),
        (True, lambda f: f.whole("x"), "body.x is True; it must be an integer from 1"),
        (1.0, lambda f: f.whole("x", least=0), "body.x is 1.0; it must be an integer from 0"),
        ("c", lambda f: f.choice("x", ("a", "b"), "a"), "body.x is 'c'; it must be 'a' or 'b'"),
        (["a"], lambda f: f.choice("x", ("a", "b")), "body.x is an array; it must be 'a' or 'b'"),
        (None, lambda f: f.choice("x", ("a", "b")), "body.x is missing; it must be 'a' or 'b'"),
        ([], lambda f: f.object("x"), "body.x is an array; it must be an object"),
        (None, lambda f: f.needed_object("x"), "body.x is missing; it must be an object"),
        ({"a": 1}, lambda f: f.objects("x"), "body.x is an object; it must be an array of objects"),
        ("s" * 100, lambda f: f.flag("x"), "body.x is '" + "s" * 59 + "...; it must be true or false"),
    ],
)
def test_refusals_name_field_value_and_limit(value: Any, read: Callable[[Fields], object], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(Fields({"x": value}, "body"))
    assert str(caught.value) == message
    assert caught.value.param == "body.x"


def test_an_item_that_is_no_object_is_named_by_its_place() -> None:
    with pytest.raises(FieldError, match=r"^messages\[1\] is a string; it must be an object$"):
        Fields({"messages": [{}, "hello"]}).objects("messages")
    with pytest.raises(FieldError, match="^the body is an array; it must be an object$"):
        Fields([])


def test_what_is_absent_or_null_has_its_default() -> None:
    for fields in (Fields({}), Fields({"x": None})):
        assert not fields.has("x")
        assert fields.text("x") is fields.whole("x") is fields.object("x") is None
        assert (fields.text("x", "d"), fields.texts("x"), fields.flag("x", True), fields.objects("x")) == (
            "d", (), True, [])  # fmt: skip
        assert fields.choice("x", ("a", "b"), "b") == "b"


def test_values_come_through() -> None:
    fields = Fields({"t": "a", "l": ["a", "b"], "f": False, "n": 7, "o": {"i": [{"t": ""}]}})
    assert (fields.text("t"), fields.texts("l"), fields.flag("f", True), fields.whole("n")) == (
        "a",
        ("a", "b"),
        False,
        7,
    )
    item = fields.needed_object("o").objects("i")[0]
    assert (item.where, item.path("t"), item.needed_text("t"), item.value) == ("o.i[0]", "o.i[0].t", "", {"t": ""})


def test_what_is_not_supported_may_be_left_off() -> None:
    for value in (None, False, 0, "", []):
        Fields({"x": value}).unsupported("x", "so it is")
    with pytest.raises(FieldError, match="^x is not supported: so it is$"):
        Fields({"x": True}).unsupported("x", "so it is")


def test_values_are_shown_short_and_by_kind() -> None:
    assert [kind_of(value) for value in (None, True, "", 1, 1.5, [], {})] == [
        "missing", "a boolean", "a string", "a number", "a number", "an array", "an object"]  # fmt: skip
    assert (shown({"secret": 1}), shown("a"), len(shown("a" * 999))) == ("an object", "'a'", 63)
