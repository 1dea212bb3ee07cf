"""What went wrong, as a client of each protocol expects to be told.

Covers: errors to status, type and code; JSON bodies and stream events of the OpenAI and Anthropic protocols; errors
that only a server has. Does not cover: catching them (`app`, `stream`). Loads no torch.
"""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octavo.config.errors import (
    BusyError,
    ConfigError,
    DocumentError,
    LimitError,
    MissingError,
    OctavoError,
    TextError,
    UsageError,
    WorkerError,
)
from octavo.engine.serving.events import LATE

_log = logging.getLogger(__name__)
_FIELD = re.compile(r"([a-z_]+(?:\[\d+\]|\.[a-z_]+)*)(?: is | does not |: )")  # messages begin with what they are about


class Shape(StrEnum):
    """Whose error bodies."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class FieldError(OctavoError):
    """One field of a request is wrong; `param` is its path as the client wrote it (`messages[0].content`)."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


class UnknownModelError(MissingError):
    """The request names a model that is not served here."""


class CancelledJob(OctavoError):
    """The job was given up before its end: `why` says whose doing it was."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the request was given up: {why}")
        self.why = why

    @property
    def late(self) -> bool:
        """Its time was over, rather than someone gave it up."""
        return self.why == LATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error on its way out: HTTP status, protocol type, one line, the field and the code where there is one."""

    status: int
    kind: str
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None


_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_ANTHROPIC_KINDS = {413: "request_too_large"}
_GIVEN_STATUS = (
    (MissingError, 404),
    (BusyError, 429),
    (WorkerError, 503),
    (FieldError, 400),
    (LimitError, 400),
    (TextError, 400),
    (UsageError, 400),
    (ConfigError, 400),
)


def fault(error: BaseException, request_id: str = "") -> Fault:
    """What a client is told about `error`. Whatever was not raised for a caller's eyes is logged, and not told."""
    if isinstance(error, HTTPException):
        return _of_status(error.status_code, str(error.detail))
    if isinstance(error, RequestValidationError):
        found = error.errors()[0]
        param = field_path(found["loc"][1:]) or None
        return _of_status(400, f"{param or 'body'}: {found['msg']}", param=param)
    if isinstance(error, CancelledJob):
        late = error.late
        return _of_status(408 if late else 503, str(error), code="deadline_exceeded" if late else "cancelled")
    if isinstance(error, DocumentError):  # a file's own fault, another text's file, or the disk's: it says which
        is_disk = isinstance(error.__cause__, OSError)
        return _of_status(507 if is_disk else 409, str(error), code="storage_failed" if is_disk else "document_failed")
    status = next((status for kind, status in _GIVEN_STATUS if isinstance(error, kind)), None)
    if status is None:
        _log.error("request %s failed", request_id, exc_info=error)
        told = (
            f"the server failed; its log has the reason under request {request_id}"
            if request_id
            else "the server failed"
        )
        return _of_status(500, told, code="internal_error")
    return _of_status(status, str(error), param=_param(error), code=_code(error),
                      retry_after=error.retry_after if isinstance(error, BusyError) else None)  # fmt: skip


def body(found: Fault, shape: Shape, request_id: str = "") -> dict[str, Any]:
    """The JSON object that says it."""
    if shape is Shape.ANTHROPIC:
        kind = _ANTHROPIC_KINDS.get(found.status, found.kind)
        told = {"type": "error", "error": {"type": kind, "message": found.message}}
        return told | ({"request_id": request_id} if request_id else {})
    return {"error": {"message": found.message, "type": found.kind, "param": found.param, "code": found.code}}


def response(error: BaseException, shape: Shape, request_id: str = "") -> JSONResponse:
    """The whole answer to a request that failed before anything was sent."""
    found = fault(error, request_id)
    headers = {} if found.retry_after is None else {"retry-after": str(max(1, math.ceil(found.retry_after)))}
    if isinstance(error, HTTPException) and error.headers:
        headers |= dict(error.headers)
    if found.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body(found, shape, request_id), status_code=found.status, headers=headers)


def as_event(error: BaseException, shape: Shape, request_id: str = "") -> str:
    """The server-sent event that ends a stream which failed on the way."""
    return f"event: error\ndata: {json.dumps(body(fault(error, request_id), shape, request_id))}\n\n"


def field_path(places: tuple[int | str, ...] | list[int | str]) -> str:
    """`("messages", 0, "content")` as `messages[0].content`."""
    parts = [f"[{place}]" if isinstance(place, int) else f".{place}" for place in places]
    return "".join(parts).removeprefix(".")


def _param(error: BaseException) -> str | None:
    if isinstance(error, FieldError):
        return error.param
    found = _FIELD.match(str(error))
    return found[1] if found and not isinstance(error, MissingError | BusyError) else None


def _code(error: BaseException) -> str | None:
    if isinstance(error, UnknownModelError):
        return "model_not_found"
    if isinstance(error, MissingError):
        return "not_found"
    if isinstance(error, BusyError):
        return "rate_limit_exceeded"
    if isinstance(error, LimitError) and "context" in str(error):
        return "context_length_exceeded"
    return getattr(error, "code", None)


def _of_status(status: int, message: str, **more: Any) -> Fault:
    # One line, and nothing that UTF-8 cannot carry: messages repeat what clients sent.
    told = " ".join(message.encode("utf-8", "backslashreplace").decode().split())
    return Fault(status=status, kind=_KINDS.get(status, "api_error"), message=told, **more)
