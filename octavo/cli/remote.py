"""A running server as a client of this machine sees it.

Covers: its address and key, JSON answers, streams of events, failures in one line. Does not cover: what is asked
(`remote_chat`), proxies of the environment, the server itself (`octavo.server`). Needs the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from octavo.config.errors import OctavoError, UsageError

KEY = "OCTAVO_API_KEY"
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 300.0  # a stream has a comment every 15 s; cutting a large text into tokens comes before the first
MAX_BYTES = 1 << 26  # of one line of a stream, one event, one body
MAX_SHOWN = 400


class RemoteError(OctavoError):
    """A server that is not there, refuses, breaks off or is none of ours; `status` is HTTP's, where it gave one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """One server: its address and the key it is sent. Each request has a connection of its own."""

    def __init__(self, url: str, key: str = "") -> None:
        """`url`: http or https, a host, maybe a port and a path, with or without the /v1 that clients of OpenAI add.
        UsageError for anything else, and for a key that no header can carry."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = None, None, None
        is_plain = url.isprintable() and " " not in url
        if parts is None or not is_plain or parts.scheme not in ("http", "https") or not host:
            raise UsageError(f"--url is {url!r}; it must be the address of a server, as http://localhost:8000")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"--url must be a host, a port and a path alone; a key is given as {KEY}")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(f"{KEY} has characters other than printable ASCII")
        self.url, self.key = url.rstrip("/"), key
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port = host, port
        self._path = quote(parts.path.rstrip("/").removesuffix("/v1"), safe="/%:@!$&'()*+,;=~")

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`. RemoteError."""
        with self._answer("GET", path) as response:
            with self._wire():
                raw = response.read(MAX_BYTES)
            return self._object(raw)

    def events(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The events that `body` is answered by, until `[DONE]` or the end of the stream, whole or not. Closing the
        iterator closes the connection, by which the server gives the work up. RemoteError, for error events too."""
        with self._answer("POST", path, body) as response:
            for value in self._blocks(response):
                if value.strip() == b"[DONE]":
                    return
                event = self._object(value)
                if event.get("error"):
                    raise RemoteError(f"{self.url}: {_told(event) or 'the server failed'}")
                yield event

    def _blocks(self, response: HTTPResponse) -> Iterator[bytes]:
        """The data of each event; comments and other fields are passed over, and so is what has no end."""
        found: list[bytes] = []
        while True:
            with self._wire():
                line = response.readline(MAX_BYTES)
            if not line.endswith(b"\n"):
                return
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                found.append(line.removeprefix(b"data:").removeprefix(b" "))
                if sum(map(len, found)) >= MAX_BYTES:
                    raise RemoteError(f"{self.url}: an event of the answer has more than {MAX_BYTES} bytes")
            elif not line and found:
                yield b"\n".join(found)
                found = []

    @contextmanager
    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Iterator[HTTPResponse]:
        headers = {"accept": "application/json" if body is None else "text/event-stream, application/json"}
        headers |= {"authorization": f"Bearer {self.key}"} if self.key else {}
        # Only lone surrogates have no UTF-8 form; spelled out they are JSON, and the server names the message at fault.
        raw = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        headers |= {} if raw is None else {"content-type": "application/json"}
        connection, response = self._kind(self._host, self._port, timeout=CONNECT_SECONDS), None
        try:
            try:
                connection.connect()
            except (OSError, UnicodeError) as error:  # a host that is no name at all is a UnicodeError
                raise RemoteError(f"{self.url}: no server can be reached: {_reason(error)}") from None
            connection.sock.settimeout(SILENT_SECONDS)
            with self._wire():
                with suppress(BrokenPipeError, ConnectionResetError):  # refused before it had all of the body
                    connection.request(method, self._path + path, body=raw, headers=headers)
                response = connection.getresponse()
            if response.status not in (200, 201):
                raise self._refusal(response)
            yield response
        finally:
            if response is not None:
                response.close()
            connection.close()

    @contextmanager
    def _wire(self) -> Iterator[None]:
        """Failures of the connection as RemoteError; around nothing else: output may fail with OSError too."""
        try:
            yield
        except (OSError, HTTPException) as error:
            raise RemoteError(f"{self.url}: the connection broke off: {_reason(error)}") from None

    def _object(self, raw: bytes) -> dict[str, Any]:
        found = _parsed(raw)
        if not isinstance(found, dict):
            raise RemoteError(f"{self.url}: what it answers is no JSON object; is it an Octavo server?")
        return found

    def _refusal(self, response: HTTPResponse) -> RemoteError:
        with self._wire():
            message = _told(_parsed(response.read(MAX_BYTES)))
        status, wait, place = response.status, response.getheader("retry-after"), response.getheader("location")
        if status == 401:
            told = f"it does not know the key of {KEY}" if self.key else f"it wants a key: set {KEY}"
        elif message:
            told = message
        elif 300 <= status < 400:
            told = f"it is elsewhere: {shown(place or 'it does not say where')}"
        else:
            told = (shown(response.reason) or "refused") + ("" if wait else "; is it an Octavo server?")
        if wait is not None:
            told += f"; retry after {shown(wait)}" + (" s" if wait.isdigit() else "")
        return RemoteError(f"{self.url}: {status}: {told}", status=status)


def _parsed(raw: bytes) -> Any:
    """The JSON value, None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _told(value: Any) -> str:
    """The message of an error's body, empty where it has none."""
    error = value.get("error") if isinstance(value, dict) else None
    return shown(error.get("message") if isinstance(error, dict) else error)


def shown(text: Any) -> str:
    """What a server wrote, on one line that is not long and cannot move a terminal's cursor."""
    found = " ".join(text.split()) if isinstance(text, str) else ""
    found = found if len(found) <= MAX_SHOWN else found[:MAX_SHOWN] + "…"
    return "".join(one if one.isprintable() else "?" for one in found)


def _reason(error: Exception) -> str:
    return shown(getattr(error, "strerror", None) or str(error)) or type(error).__name__
