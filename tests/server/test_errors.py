"""What clients are told: status, type, code and field, in either protocol's shape, and never more than is theirs."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from octavo.config.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    LimitError,
    MissingError,
    TextError,
    UsageError,
)
from octavo.engine.serving.work import LATE
from octavo.server.errors import (
    CancelledJob,
    FieldError,
    Shape,
    UnknownModelError,
    as_event,
    fault,
    field_path,
    response,
)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (FieldError("n is 0", param="n", code="x"), 400, "invalid_request_error", "x", "n"),
        (LimitError("max_tokens is 0; it must be 1"), 400, "invalid_request_error", None, "max_tokens"),
        (
            LimitError("the prompt: 9 tokens make 9; the context of this model ends at 8"),
            400,
            "invalid_request_error",
            "context_length_exceeded",
            None,
        ),
        (TextError("messages[0].content[1].type is 'image_url'"), 400, "invalid_request_error", None,
         "messages[0].content[1].type"),
        (TextError("messages[2].tools does not belong to it"), 400, "invalid_request_error", None, "messages[2].tools"),
        (UsageError("sources and quote need a document"), 400, "invalid_request_error", None, None),
        (ConfigError("bad"), 400, "invalid_request_error", None, None),
        (MissingError("document is 'x'; there is none"), 404, "not_found_error", "not_found", None),
        (UnknownModelError("model 'x' is not served here"), 404, "not_found_error", "model_not_found", None),
        (BusyError("9 jobs wait already"), 429, "rate_limit_error", "rate_limit_exceeded", None),
        (CancelledJob(LATE), 408, "timeout_error", "deadline_exceeded", None),
        (CancelledJob("the service ends"), 503, "overloaded_error", "cancelled", None),
        (HTTPException(405, "Method Not Allowed"), 405, "invalid_request_error", None, None),
        (HTTPException(413, "large"), 413, "invalid_request_error", None, None),
        (RequestValidationError([{"loc": ("body", "tokens", 3), "msg": "no integer", "type": "x"}]), 400,
         "invalid_request_error", None, "tokens[3]"),
    ],
)  # fmt: skip
def test_error_becomes_status_type_code_and_field(
    error: Exception, status: int, kind: str, code: str | None, param: str | None
) -> None:
    told = response(error, Shape.OPENAI, "req_1")
    assert told.status_code == status
    found = json.loads(told.body)
    assert found.keys() == {"error"}
    assert found["error"].keys() == {"message", "type", "param", "code"}
    assert (found["error"]["type"], found["error"]["code"], found["error"]["param"]) == (kind, code, param)
    assert found["error"]["message"]


def test_anthropic_shape_has_its_own_names() -> None:
    told = json.loads(response(HTTPException(413, "large"), Shape.ANTHROPIC, "req_1").body)
    assert told == {"type": "error", "error": {"type": "request_too_large", "message": "large"}, "request_id": "req_1"}
    told = json.loads(response(BusyError("full"), Shape.ANTHROPIC).body)
    assert told == {"type": "error", "error": {"type": "rate_limit_error", "message": "full"}}


def test_busy_says_when_to_come_back_in_whole_seconds() -> None:
    assert response(BusyError("full", retry_after=2.2), Shape.OPENAI).headers["retry-after"] == "3"
    assert response(BusyError("full", retry_after=0.1), Shape.OPENAI).headers["retry-after"] == "1"
    assert "retry-after" not in response(LimitError("x"), Shape.OPENAI).headers


def test_headers_of_an_http_error_are_kept() -> None:
    told = response(HTTPException(405, "no", headers={"allow": "GET"}), Shape.OPENAI)
    assert told.headers["allow"] == "GET"
    assert response(HTTPException(401, "no"), Shape.OPENAI).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("error", [ValueError("secret path /x"), CheckpointError("/secret/x is truncated")])
def test_unforeseen_error_is_logged_and_not_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="octavo.server.errors"):
        told = response(error, Shape.OPENAI, "req_7")
    assert told.status_code == 500
    assert "secret" not in told.body.decode()
    assert "req_7" in json.loads(told.body)["error"]["message"]
    assert "secret" in str(caplog.records[0].exc_info)
    assert "req_7" in caplog.records[0].getMessage()


def test_foreseen_error_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    fault(LimitError("n is 0"))
    assert not caplog.records


def test_message_is_one_line_that_utf8_can_carry() -> None:
    told = json.loads(response(TextError("role is '\ud800'\nx"), Shape.OPENAI).body)
    assert told["error"]["message"] == "role is '\\ud800' x"


@pytest.mark.parametrize("shape", list(Shape))
def test_event_of_an_error_is_the_body_under_the_name_error(shape: Shape) -> None:
    error = LimitError("n is 0")
    event = as_event(error, shape, "req_1")
    name, data, *rest = event.split("\n")
    assert name == "event: error"
    assert rest == ["", ""]
    assert json.loads(data.removeprefix("data: ")) == json.loads(response(error, shape, "req_1").body)


def test_path_of_a_field() -> None:
    assert field_path(("messages", 0, "content", 2, "type")) == "messages[0].content[2].type"
    assert field_path(["model"]) == "model"
    assert field_path(()) == ""
