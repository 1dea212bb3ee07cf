"""Which web pages may send requests from a user's browser.

Covers: foreign origins and names that only pretend to be this machine. Does not cover: keys (`auth`), what a page that
was let in may read (CORS, `app`).

A browser sends simple requests to any address for any page, and a server on a loopback address without a key would do
what they say. So a request that names an `origin` is let in where that is the server's own page or one of the origins
in its settings. And where no key is asked, the name in `host` must be this machine's: else a page whose own name was
made to point here (DNS rebinding) would be of the same origin.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.server.refusal import Refusal, turn_away
from octavo.server.settings import is_loopback


class OriginMiddleware:
    """Answers 403 to requests of foreign pages."""

    def __init__(self, app: ASGIApp, *, host: str, has_keys: bool, origins: tuple[str, ...] = ()) -> None:
        """`host`: the address that the server listens on; `origins`: pages that may ask, `*` for all."""
        self.app, self.host, self.has_keys, self.origins = app, host, has_keys, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"host", b"origin")}
        why = self.problem(given.get(b"host", ""), given.get(b"origin"))
        if why is not None:
            headers = {"connection": "close"}
            return await turn_away(Refusal(why, status=403, headers=headers), scope, receive, send)
        await self.app(scope, receive, send)

    def problem(self, host: str, origin: str | None) -> str | None:
        """Why a request with these headers is not let in; None where it is."""
        name = _name(f"//{host}")
        if not self.has_keys and not (is_loopback(name) or name == self.host):
            return f"host is {host[:100]!r}; without an api key only names of this machine are answered"
        if origin is None or origin in self.origins or "*" in self.origins:
            return None
        if origin.partition("://")[2] == host:
            return None
        return f"origin is {origin[:100]!r}; pages of other origins are let in by the setting cors_origins"


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
