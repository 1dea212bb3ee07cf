"""Documents over HTTP: read once, kept by name, asked as often as anyone likes.

Covers: /v1/documents and what lies below. Does not cover: taking an upload in (`uploads`), keeping documents
(`octavo.engine.serving.library`), chats about one, which name it in the protocols' own requests. Names are checked by
the library, so no path leaves its folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from octavo.config.errors import LimitError
from octavo.engine.request import Request as Sampling
from octavo.engine.serving.events import Ended, Event, Piece, Reading
from octavo.engine.serving.job import Job
from octavo.engine.serving.library import DocumentInfo, DocumentState
from octavo.server.bridge import Submission
from octavo.server.context import Context
from octavo.server.errors import FieldError, Shape, as_event
from octavo.server.protocol.common import attended
from octavo.server.protocol.uploads import UPLOAD_SCHEMA, Readings, take_upload
from octavo.server.refusal import request_id
from octavo.server.stream import data, sse
from octavo.text.plain import check_unicode

MAX_TEXT_CHARACTERS = 65_536
MAX_QUESTION_CHARACTERS = 65_536


class Question(BaseModel):
    """A question about a document; fields as of `octavo ask`. sources: give the places of the answer. stream: the
    answer as events of pieces, the last one with everything."""

    model_config = ConfigDict(strict=True, extra="forbid")
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)]
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] = []
    quote: bool | None = None
    sources: bool = True
    stream: bool = False


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/documents", tags=["documents"])
    readings, library = Readings(context.service), context.service.library

    @routes.get("")
    async def documents() -> dict[str, Any]:
        """Every document, with its state, tokens, bytes and files."""
        return {"object": "list", "data": [_plain(library.info(name)) for name in library.names()]}

    @routes.post("", openapi_extra=UPLOAD_SCHEMA)
    async def read(
        request: Request,
        stream: Annotated[bool, Query()] = False,
        wait: Annotated[bool, Query()] = True,
    ) -> Response:
        """Read a document: with `stream` progress as events, with `wait=false` an answer (202) at once.

        A client that leaves while it waits ends the reading; what is in its file stays, and can be gone on with.
        """
        name, texts = await take_upload(request, context.bridge)
        reading = await readings.begin(name, texts, context.bridge)
        if stream:
            events = _told(reading.progress(), request_id(request.scope))
            return sse(events, keep_alive_seconds=context.keep_alive_seconds)
        if not wait:
            return JSONResponse(_plain(library.info(name)), 202)
        await reading.wait(request)
        return JSONResponse(_plain(library.info(name)), 201)

    @routes.get("/{name}")
    async def document(name: str) -> dict[str, Any]:
        """One document."""
        return _plain(library.info(name))

    @routes.delete("/{name}")
    async def remove(name: str) -> dict[str, Any]:
        """Forget a document and delete its file; one that is being read is given up first."""
        library.info(name)
        await readings.stop(name)
        if name in library.names():
            await context.bridge.run_blocking(library.remove, name)
        return {"name": name, "object": "document", "deleted": True}

    @routes.get("/{name}/text")
    async def text(
        name: str,
        start: Annotated[int, Query(ge=0)] = 0,
        end: Annotated[int, Query(ge=0)] = 4096,
        file: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """Characters start .. end - 1 of the document's text number `file`; at most 65,536 at a time."""
        if end - start > MAX_TEXT_CHARACTERS:
            raise LimitError(f"end - start is {end - start}; at most {MAX_TEXT_CHARACTERS} characters at a time")
        found = await context.bridge.run_blocking(library.text, name, start, end, file=file)
        return {"name": name, "file": file, "start": start, "end": start + len(found), "text": found}

    @routes.post("/{name}/ask")
    async def ask(name: str, asked: Question, request: Request) -> Response:
        """An answer from the document, with the places it came from."""
        job = await context.bridge.run_blocking(_job, context, name, asked)
        submission, made = await context.bridge.submit(job), _Made()
        if asked.stream:
            blocks = _told(made.follow(submission), request_id(request.scope))
            return sse(blocks, keep_alive_seconds=context.keep_alive_seconds)
        await attended(request, made.all_of(submission))
        return JSONResponse(made.whole)

    return routes


def _plain(info: DocumentInfo) -> dict[str, Any]:
    return {"object": "document"} | asdict(info) | {"state": str(info.state)}


def _job(context: Context, name: str, asked: Question) -> Job:
    """The question as a job. Blocking: it is cut into tokens."""
    check_unicode(asked.question, name="question")
    info = context.service.library.info(name)
    if info.state is DocumentState.FAILED:
        raise FieldError(f"document {name!r} cannot be asked: {info.error}", code="document_failed")
    prompt = context.service.llm.question_ids(asked.question, after=info.done)
    given = asked.model_dump(include=set(Sampling.__dataclass_fields__))
    return Job(
        id=uuid4().hex, prompt=tuple(prompt), request=Sampling(**given), document=name,
        sources=asked.sources, quote=asked.quote, seconds=getattr(context.settings, "request_seconds", None),
    )  # fmt: skip


class _Made:
    """An answer as its events come."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.whole: dict[str, Any] = {}

    def take(self, event: Event) -> dict[str, Any] | None:
        """What a client is told: `{"text"}` for a piece, everything at the end."""
        if isinstance(event, Piece) and event.text:
            self._parts.append(event.text)
            return {"text": event.text}
        if isinstance(event, Reading):
            return {"done": event.done, "total": event.total}
        if isinstance(event, Ended):
            self.whole = {
                "answer": "".join(self._parts).strip(),
                "sources": [asdict(source) for source in event.sources],
                "usage": asdict(event.usage),
                "finish": str(event.finish),
                "seed": event.seed,
            }
            return self.whole
        return None

    async def all_of(self, submission: Submission) -> None:
        """Take every event; the job is cancelled where that ends early."""
        async for _ in self.follow(submission):
            pass

    async def follow(self, submission: Submission) -> AsyncIterator[dict[str, Any]]:
        """All that a client is told."""
        try:
            async for event in submission:
                told = self.take(event)
                if told is not None:
                    yield told
        finally:
            submission.close()


async def _told(events: AsyncIterator[dict[str, Any]], id: str) -> AsyncIterator[str]:
    """Each event encoded, and an error as the last one."""
    try:
        async for event in events:
            yield data(event)
    except Exception as error:
        yield as_event(error, Shape.OPENAI, id)
