"""`GET /v1/documents/{name}/fold` and `/map`: which tokens the entries around a character kept, and a document's frame.

Covers: the queries, and the fold as JSON. Does not cover: the frame (`outline`), computing a fold
(`octavo.engine.fold`), errors (raised as they are, for the application's handlers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Query

from octavo.config.errors import MissingError
from octavo.server.context import Context
from octavo.server.protocol.outline import outline_body

if TYPE_CHECKING:
    from octavo.engine.document import Document

Seen = TypeVar("Seen")


def router(context: Context) -> APIRouter:
    """The routes. `at` counts code points of the document's text number `file`; `layer` keeps one layer's entries."""
    routes = APIRouter(prefix="/v1/documents", tags=["documents"])

    @routes.get("/{name}/fold")
    async def fold(
        name: str,
        at: Annotated[int, Query(ge=0)],
        file: Annotated[int, Query(ge=0)] = 0,
        layer: Annotated[int | None, Query(ge=0)] = None,
    ) -> dict[str, Any]:
        """The entries around a place of a document, and the share of each of their tokens."""
        see = _seeing(context, name, lambda document: fold_body(document, at=at, file=file, layer=layer))
        return await context.bridge.run_blocking(see)

    @routes.get("/{name}/map")
    async def outline(name: str, bins: Annotated[int, Query(ge=1)] = 512) -> dict[str, Any]:
        """Texts with their first token, tokens and characters; the place where each bin begins; the window's tokens."""
        return await context.bridge.run_blocking(_seeing(context, name, lambda document: outline_body(document, bins)))

    return routes


def _seeing(context: Context, name: str, see: Callable[[Document], Seen]) -> Callable[[], Seen]:
    """`see` of the document while it is held open; blocking."""

    def seen() -> Seen:
        library = context.service.library
        if library is None:
            raise MissingError("this server keeps no documents")
        document, _ = library.open(name)
        try:
            return see(document)
        finally:
            library.leave(document)

    return seen


def fold_body(document: Document, *, at: int, file: int = 0, layer: int | None = None) -> dict[str, Any]:
    """The body: the token at the character, and the entries around it. UsageError and LimitError as `fold` raises."""
    from octavo.engine.fold import fold_at, token_at

    token = token_at(document.texts, at, file)
    entries = fold_at(document, token, layer)
    return {
        "object": "document.fold",
        "at": at,
        "file": file,
        "token": token,
        "entries": [entry.to_dict() for entry in entries],
    }
