"""Taking a document in: a form with files, or JSON with a text; and following its reading.

Covers: both forms, their limits, progress events, giving up. Does not cover: the routes (`documents`), how large a body
may be (`octavo.server.limits`). A form's files go to temporary files on disk while they arrive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from octavo.config.errors import BusyError, UsageError
from octavo.engine.plan import plan
from octavo.engine.serving.events import Cancelled, Ended, Event, Failed, Reading
from octavo.engine.serving.library import check_name
from octavo.engine.texts import Text, gather_texts
from octavo.server.bridge import Bridge
from octavo.server.errors import CancelledJob, FieldError
from octavo.text.plain import plain_text

if TYPE_CHECKING:
    from octavo.engine.serving.service import Service

MAX_FILES = 64
MAX_FIELDS = 8
MAX_READINGS = 8
MAX_LABEL = 200

UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "name": {"type": "string"},
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["name", "text"],
                    "properties": {"name": {"type": "string"}, "text": {"type": "string"}},
                }
            },
        },
    }
}


class NewDocument(BaseModel):
    """A document as JSON; `file` is the name that its sources bear (left out: the document's)."""

    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    text: Annotated[str, Field(min_length=1)]
    file: Annotated[str, Field(min_length=1, max_length=MAX_LABEL)] | None = None


async def take_upload(request: Request, bridge: Bridge) -> tuple[str, list[Text]]:
    """The document's name and its texts in order. UsageError for a bad name or neither form, RequestValidationError for
    bad JSON, TextError, naming the byte, for what is no UTF-8 text."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request, bridge)
    if kind != "application/json" and not kind.endswith("+json"):
        raise UsageError(f"content-type is {kind[:60]!r}; send multipart/form-data with files, or application/json")
    body = await request.body()
    try:
        given = await bridge.run_blocking(NewDocument.model_validate_json, body)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_input=False, include_url=False)]
        raise RequestValidationError(found) from None
    name = check_name(given.name)
    return name, gather_texts(Text(name=given.file or name, text=given.text))


async def _form(request: Request, bridge: Bridge) -> tuple[str, list[Text]]:
    async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:
        files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
        if not files:
            raise FieldError("the form has no file: send it as the field `file`", param="file")
        named = form.get("name")
        first = PurePosixPath(files[0].filename or "").name
        name = check_name(named if isinstance(named, str) else first.rsplit(".", 1)[0])
        texts = []
        for file in files:
            label = (PurePosixPath((file.filename or "").replace("\\", "/")).name or name)[:MAX_LABEL]
            content = await file.read()
            texts.append(Text(name=label, text=await bridge.run_blocking(plain_text, content, name=label)))
        return name, gather_texts(texts)


class ReadingUnderWay:
    """One document that the service reads. Its progress can be followed once; `stop` gives it up."""

    def __init__(self, service: Service, name: str) -> None:
        self.id, self.name = f"read-{uuid4().hex}", name
        self._service, self._loop = service, asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.over = asyncio.Event()
        per_token = plan(service.llm.config, 1).comparisons[-1].bytes_per_token
        self._uncompressed, self._began = per_token, time.monotonic()
        self._first: int | None = None

    def tell(self, event: Event) -> None:
        """What the service calls on its own threads."""
        try:
            self._loop.call_soon_threadsafe(self._take, event)
        except RuntimeError:
            if not self._loop.is_closed():  # with the loop its listeners are gone
                raise

    def _take(self, event: Event) -> None:
        if isinstance(event, Ended | Cancelled | Failed):
            self.over.set()
        self._events.put_nowait(event)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """How far it is, whenever a chunk is read; the last one has `"state": "ready"`. uncompressed_bytes: what a
        cache of every token with eight key-value heads in BF16 would take. Raises CancelledJob, or why it failed;
        leaving early gives the document up."""
        last: dict[str, Any] = {}
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Reading):
                    last = self._figures(event)
                    yield last
                elif isinstance(event, Ended):
                    yield {**last, "name": self.name, "state": "ready", "seconds_left": 0.0}
                    return
                elif isinstance(event, Cancelled):
                    raise CancelledJob(event.why)
                elif isinstance(event, Failed):
                    raise event.error
        finally:
            self.stop("the client went away")

    async def wait(self, request: Request) -> None:
        """Wait for the end; give up when the client of `request` leaves."""
        watcher = asyncio.create_task(self._until_gone(request))
        try:
            async for _ in self.progress():
                pass
        finally:
            watcher.cancel()

    async def _until_gone(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.stop("the client went away")

    def stop(self, why: str) -> None:
        """Give it up unless it is over."""
        if not self.over.is_set():
            self._service.cancel(self.id, why)

    def _figures(self, event: Reading) -> dict[str, Any]:
        if self._first is None:  # an earlier run may have read the beginning
            self._first, self._began = event.done, time.monotonic()
        seconds = time.monotonic() - self._began
        rate = (event.done - self._first) / seconds if seconds > 0 else 0.0
        return {
            "done": event.done,
            "total": event.total,
            "tokens_per_second": round(rate, 1),
            "seconds_left": round((event.total - event.done) / rate, 1) if rate > 0 else None,
            "cache_bytes": event.cache_bytes,
            "uncompressed_bytes": int(self._uncompressed * event.done),
        }


class Readings:
    """The documents that are being read now."""

    def __init__(self, service: Service) -> None:
        self._service, self._under_way = service, dict[str, ReadingUnderWay]()

    async def begin(self, name: str, texts: Sequence[Text], bridge: Bridge) -> ReadingUnderWay:
        """Start reading; what `Service.read` raises, and BusyError for more than 8 at a time."""
        under_way = {key: one for key, one in self._under_way.items() if not one.over.is_set()}
        self._under_way = under_way
        if len(under_way) >= MAX_READINGS:
            raise BusyError(f"{MAX_READINGS} documents are being read, which is the limit", retry_after=10.0)
        if name in under_way:
            raise UsageError(f"document {name!r} is being read already")
        reading = ReadingUnderWay(self._service, name)
        under_way[name] = reading
        try:
            await bridge.run_blocking(self._service.read, reading.id, name, texts, reading.tell)
        except BaseException:
            reading.over.set()
            raise
        return reading

    async def stop(self, name: str) -> None:
        """Give a reading up and wait for its end."""
        reading = self._under_way.get(name)
        if reading is not None and not reading.over.is_set():
            reading.stop("the document was deleted")
            await reading.over.wait()
