"""Which kinds of body are read: JSON, and forms where documents are taken in.

Covers: the content type of a request before its body is read. Does not cover: whether the body is what its type says
(`protocol`), how large it may be (`limits`).

A body without a content type is taken for JSON, as other servers do; one of another type is refused with 415, never
guessed at. So a form or plain text that a page of another origin sends without asking first is not read as JSON.
"""

from __future__ import annotations

import re
from email.message import Message as Header

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.server.refusal import Refusal, turn_away

JSON = "application/json"
FORM = "multipart/form-data"
FORM_PATHS = frozenset({"/v1/documents"})
_SHOWN = 80
_IS_JSON = re.compile(r"application/(json|[a-z0-9!#$&^_.-]+\+json)")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


class MediaMiddleware:
    """Answers 415, in the shape of the path's protocol, to a POST whose body is of a type that is not read there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, a missing type as JSON, or answer 415."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _has_body(scope):
            return await self.app(scope, receive, send)
        found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"]
        given = found[0].strip() if found else ""
        if not given:
            kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
            scope["headers"] = [*kept, (b"content-type", JSON.encode())]
            return await self.app(scope, receive, send)
        if not _is_read(given, scope["path"]):
            kinds = f"{JSON} or {FORM}" if scope["path"] in FORM_PATHS else JSON
            error = Refusal(f"content-type is {given[:_SHOWN]!r}; it must be {kinds}, in UTF-8", status=415)
            return await turn_away(error, scope, receive, send)
        await self.app(scope, receive, send)


def is_form(scope: Scope) -> bool:
    """Whether the body is a form that is taken in there, which goes to a file."""
    kind = dict(scope["headers"]).get(b"content-type", b"")
    return scope["path"] in FORM_PATHS and kind.lower().startswith(FORM.encode())


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in headers


def _is_read(given: str, path: str) -> bool:
    header = Header()
    header["content-type"] = given
    kind, charset = given.split(";")[0].strip().lower(), header.get_param("charset")
    if kind == FORM:
        return path in FORM_PATHS
    return bool(_IS_JSON.fullmatch(kind)) and (charset is None or str(charset).lower() in _CHARSETS)
