"""What a server writes about requests: a JSON line each, under an id that the answer carries too.

Covers: request ids, the access log, errors nobody foresaw. Does not cover: prompts and answers, which are never
written; queries of addresses, which may hold anything; where lines go (the handlers of `logging`).
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.server.refusal import Refusal, refuse

ACCESS = "octavo.server.access"
ERRORS = "octavo.server.errors"
MAX_PATH = 200
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class JsonLines(logging.Formatter):
    """A record as one JSON object: time (UTC), level, logger, message, and what `extra={"fields": {...}}` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback is one string of it."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_settings(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything goes to stderr as JSON lines, uvicorn's own words from warnings up
    (its access log is replaced by ours), and so OpenTelemetry's."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            "octavo": {"handlers": ["stderr"], "level": level.upper(), "propagate": False},
            "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "opentelemetry": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
    }


def new_id(given: str | None) -> str:
    """The id of a request: what its client sent, if that is 1 to 128 letters, digits and . _ : -, or else a new one."""
    return given if given is not None and _ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


class LogMiddleware:
    """The outermost layer: gives a request its id (`state.request_id`, headers x-request-id and, where Anthropic's
    clients look, request-id), writes its line when it is over, and answers 500 with that id, and nothing else, where
    something failed that nobody foresaw."""

    def __init__(self, app: ASGIApp, *, on_error: Callable[[int], None] | None = None) -> None:
        """`on_error` is told the status of every answer from 400 up."""
        self.app, self._on_error = app, on_error
        self._access, self._errors = logging.getLogger(ACCESS), logging.getLogger(ERRORS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = made = new_id(Headers(scope=scope).get("x-request-id"))
        started, status, sent, is_over = time.monotonic(), None, 0, False

        async def watched(message: Message) -> None:
            nonlocal status, sent, is_over
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({"x-request-id": made, "request-id": made})
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                is_over = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            pass  # it left while its body was on its way: nothing failed, and nobody is there to be told
        except Exception:
            self._errors.exception("a request failed", extra={"fields": {"request_id": made}})
            if status is None:
                error = Refusal(f"something went wrong here; the log has it under {made}", status=500)
                await refuse(error, scope, receive, watched)
            else:
                raise  # half an answer is out: only closing the connection says that the rest is missing
        finally:
            if status is not None and status >= 400 and self._on_error is not None:
                self._on_error(status)
            fields = {
                "request_id": made,
                "method": scope["method"],
                "path": scope["path"][:MAX_PATH],
                "status": status,
                "is_complete": is_over,
                "sent_bytes": sent,
                "seconds": round(time.monotonic() - started, 6),
                "caller": state.get("caller"),
            }
            self._access.info("request", extra={"fields": fields})
