"""Who may ask: API keys.

Covers: reading keys from the environment or a file, finding and comparing the key of a request. Does not cover: how
often a key may ask (`limits`), users, roles, encryption of the connection.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.config.errors import UsageError
from octavo.server.refusal import Refusal, turn_away

ENVIRONMENT = "OCTAVO_API_KEY"
OPEN_PATHS = frozenset({"/health", "/ready"})
MAX_KEY_FILE_BYTES = 65536


def read_keys(file: str | Path | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of `file`, a line each (empty lines and those that begin with # are left out), or else the one of
    OCTAVO_API_KEY; none without both. UsageError for a file that cannot be read, that others may read, or without keys.
    """
    if file is None:
        key = environment.get(ENVIRONMENT, "").strip()
        return (key,) if key else ()
    path = Path(file)
    try:
        if path.stat().st_mode & 0o044:
            raise UsageError(f"{path}: others may read the api key file; chmod 600 {path}")
        with path.open("rb") as opened:
            data = opened.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: the api key file cannot be read: {error.strerror}") from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise UsageError(f"{path}: the api key file has more than {MAX_KEY_FILE_BYTES} bytes")
    lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise UsageError(f"{path}: the api key file holds no key")
    return keys


def given_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request carries: `authorization: Bearer KEY`, or else `x-api-key: KEY`."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            found = value.strip()
    return found


class Keys:
    """The keys of a server. Only digests are kept; every key is compared, so time tells neither which nor how near."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, given: bytes | None) -> int | None:
        """Which key it is, from 1; None for no key or an unknown one."""
        digest = hashlib.sha256(given or b"").digest()
        found = None
        for place, known in enumerate(self._digests, start=1):
            if hmac.compare_digest(digest, known):
                found = place
        return found


class AuthMiddleware:
    """Lets requests through that carry a key, or that ask for an open path. Sets `state.caller`: `key N`, or without
    keys the address; it stands in logs and is what limits count by."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str], open_paths: Iterable[str] = ()) -> None:
        """`open_paths`: what GET and HEAD may ask for without a key, beside /health and /ready."""
        self.app, self.keys, self.open_paths = app, Keys(keys), OPEN_PATHS | frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        number = self.keys.find(given_key(scope["headers"])) if self.keys else None
        if number is not None:
            caller = f"key {number}"
        else:
            caller = "address " + (scope["client"][0] if scope.get("client") else "unknown")
        scope.setdefault("state", {})["caller"] = caller
        is_open = scope["path"] in self.open_paths and scope["method"] in ("GET", "HEAD")
        if self.keys and number is None and not is_open:
            why = "the api key is unknown" if given_key(scope["headers"]) else "an api key is needed"
            error = Refusal(
                f"{why}: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
                status=401,
                headers={"www-authenticate": "Bearer", "connection": "close"},
            )
            return await turn_away(error, scope, receive, send)
        await self.app(scope, receive, send)
