"""Where a server is in its life, and how it ends without cutting answers off.

Covers: the phases, counting requests under way, turning new ones away at the end. Does not cover: signals (`serve`),
jobs of the engine (`octavo.engine.serving.service`).
"""

from __future__ import annotations

import asyncio
from enum import StrEnum

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.server.refusal import Refusal, turn_away


class Phase(StrEnum):
    """Getting ready, taking requests, finishing those that are there, over."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    OVER = "over"


class Lifecycle:
    """The phase of a server and the requests under way. Used on the event loop's thread only."""

    def __init__(self) -> None:
        self.phase, self.under_way = Phase.LOADING, 0
        self._idle = asyncio.Event()
        self._idle.set()

    def ready(self) -> None:
        """Requests are taken from now on."""
        self.phase = Phase.READY

    def drain(self) -> None:
        """No new requests from now on."""
        if self.phase is not Phase.OVER:
            self.phase = Phase.DRAINING

    def end(self) -> None:
        """Everything is closed."""
        self.phase = Phase.OVER

    def enter(self) -> None:
        """A request begins."""
        self.under_way += 1
        self._idle.clear()

    def leave(self) -> None:
        """A request is over, whatever became of it."""
        self.under_way -= 1
        if not self.under_way:
            self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until no request is under way, at most `seconds`; whether that came about."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True


class DrainMiddleware:
    """Counts requests, and answers 503 before the server is ready and while it drains. /health, /ready and /metrics
    are neither counted nor turned away."""

    def __init__(self, app: ASGIApp, *, lifecycle: Lifecycle, open_paths: frozenset[str]) -> None:
        self.app, self.lifecycle, self.open_paths = app, lifecycle, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503."""
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            return await self.app(scope, receive, send)
        if self.lifecycle.phase is not Phase.READY:
            headers = {"retry-after": "5", "connection": "close"}
            error = Refusal(f"the server is {self.lifecycle.phase}", status=503, headers=headers)
            return await turn_away(error, scope, receive, send)
        self.lifecycle.enter()
        try:
            await self.app(scope, receive, send)
        finally:
            self.lifecycle.leave()
