"""Errors in the shape of the protocol that was asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from octavo.config.errors import BusyError, LimitError, MissingError
from octavo.server.errors import FieldError, Shape
from octavo.server.refusal import Refusal, answer, printable, shape_of


def asked(path: str) -> dict[str, Any]:
    return {"type": "http", "path": path, "state": {"request_id": "req_1"}}


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/messages", Shape.ANTHROPIC),
        ("/v1/messages/count_tokens", Shape.ANTHROPIC),
        ("/v1/messagesx", Shape.OPENAI),
        ("/v1/chat/completions", Shape.OPENAI),
        ("/", Shape.OPENAI),
    ],
)
def test_shape_of_a_path(path: str, shape: Shape) -> None:
    assert shape_of(path) is shape


def test_openais_shape() -> None:
    found = answer(Refusal("too many", status=429, headers={"retry-after": "7"}), asked("/v1/models"))
    assert (found.status_code, found.headers["retry-after"]) == (429, "7")
    expected = {"message": "too many", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    assert json.loads(found.body) == {"error": expected}


def test_anthropics_shape() -> None:
    found = answer(Refusal("too large", status=413), asked("/v1/messages"))
    error = {"type": "request_too_large", "message": "too large"}
    assert json.loads(found.body) == {"type": "error", "error": error, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LimitError("max_tokens is 0"), 400, None),
        (LimitError("the prompt goes beyond the context"), 400, "context_length_exceeded"),
        (MissingError("no document"), 404, "not_found"),
        (FieldError("n is 0", param="n"), 400, None),
        (HTTPException(405), 405, "method_not_allowed"),
        (ValueError("secret"), 500, "internal_error"),
    ],
)
def test_status_and_code(error: Exception, status: int, code: str | None) -> None:
    found = answer(error, asked("/v1/models"))
    assert found.status_code == status
    assert json.loads(found.body)["error"]["code"] == code
    assert b"secret" not in found.body


def test_a_busy_service_says_when_to_come_back() -> None:
    found = answer(BusyError("no room", retry_after=12.4), asked("/v1/models"))
    assert (found.status_code, found.headers["retry-after"]) == (429, "13")


def test_messages_are_one_line_that_utf8_can_carry() -> None:
    assert printable("a\nb \ud800") == "a b \\ud800"
    found = answer(LimitError("x is '\ud800'\n"), asked("/v1/models"))
    assert json.loads(found.body)["error"]["message"] == "x is '\\ud800'"
