"""How much may be asked: bytes of a body, requests and tokens a minute.

Covers: token buckets, the limit of a body while it arrives, the limits of a caller. Does not cover: what a request's
fields may be (`octavo.engine.request`, `protocol`), room in the engine (`octavo.engine.serving`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.server.media import is_form
from octavo.server.refusal import SPARE_BYTES, SPARE_SECONDS, Refusal, discard, turn_away

MAX_CALLERS = 10_000

# Tokens are counted where jobs end, far below the request, and no value of the protocols carries who asked. The
# variable follows the request's task into the tasks and threads it starts, so the count reaches the right caller.
CALLER: ContextVar[str | None] = ContextVar("caller", default=None)


class Bucket:
    """An allowance that fills at an even rate up to `per_minute`. It may be overdrawn: what something costs is known
    only after it was done."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._level, self._at = float(per_minute), clock()

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now

    @property
    def left(self) -> int:
        """Whole units that may be taken now, from 0."""
        self._fill()
        return max(0, math.floor(self._level))

    def take(self, amount: int) -> None:
        """Take `amount`, whether it is there or not."""
        self._fill()
        self._level -= amount

    def wait(self, amount: int = 1) -> float:
        """Seconds until `amount` may be taken; 0 where it may be now."""
        self._fill()
        return max(0.0, (amount - self._level) * 60 / self.per_minute)


class RateLimits:
    """The allowances of every caller: so many requests and tokens a minute, None for no limit. Safe between threads.

    Callers that were seen longest ago are forgotten beyond 10,000, so that addresses cannot fill the memory.
    """

    def __init__(
        self, requests: int | None, tokens: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.requests, self.tokens, self._clock = requests, tokens, clock
        self._callers: OrderedDict[str, dict[str, Bucket]] = OrderedDict()
        self._lock = Lock()

    def _buckets(self, caller: str) -> dict[str, Bucket]:
        if caller not in self._callers:
            limits = {"requests": self.requests, "tokens": self.tokens}
            self._callers[caller] = {
                name: Bucket(limit, self._clock) for name, limit in limits.items() if limit is not None
            }
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)
        self._callers.move_to_end(caller)
        return self._callers[caller]

    def enter(self, caller: str) -> tuple[float, str | None]:
        """Count a request: (0, None), or where it is too much (seconds to wait, "requests" or "tokens") uncounted."""
        with self._lock:
            buckets = self._buckets(caller)
            waits = {name: bucket.wait() for name, bucket in buckets.items()}
            longest = max(waits, key=lambda name: waits[name], default=None)
            if longest is not None and waits[longest] > 0:
                return waits[longest], longest
            if "requests" in buckets:
                buckets["requests"].take(1)
            return 0.0, None

    def charge(self, caller: str | None, tokens: int) -> None:
        """Count tokens that were read or made for a caller; None is nobody."""
        if caller is not None and self.tokens is not None:
            with self._lock:
                self._buckets(caller)["tokens"].take(tokens)

    def headers(self, caller: str) -> dict[str, str]:
        """The x-ratelimit-* headers of an answer."""
        with self._lock:
            found = {}
            for name, bucket in self._buckets(caller).items():
                found[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                found[f"x-ratelimit-remaining-{name}"] = str(bucket.left)
                found[f"x-ratelimit-reset-{name}"] = f"{bucket.wait(bucket.per_minute):.3f}s"
            return found


class RateMiddleware:
    """Counts requests by caller (`state.caller`) and answers 429 beyond the limit. Open paths are not counted."""

    def __init__(self, app: ASGIApp, *, limits: RateLimits, open_paths: frozenset[str]) -> None:
        self.app, self.limits, self.open_paths = app, limits, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the headers that tell what is left, or answer 429."""
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            return await self.app(scope, receive, send)
        caller = scope["state"]["caller"]
        seconds, which = self.limits.enter(caller)
        headers = self.limits.headers(caller)
        if which is not None:
            limit = self.limits.requests if which == "requests" else self.limits.tokens
            error = Refusal(
                f"too many {which}: the limit is {limit} a minute; try again in {seconds:.1f} s",
                status=429,
                headers={"retry-after": str(max(1, math.ceil(seconds))), **headers},
            )
            return await turn_away(error, scope, receive, send)

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        mark = CALLER.set(caller)
        try:
            await self.app(scope, receive, tell)
        finally:
            CALLER.reset(mark)


class BodyMiddleware:
    """Stops bodies that are too large (413) or too slow (408) while they arrive, so that nobody holds them whole.

    A little of what is too much is taken and thrown away before the answer (`discard`).
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, max_upload_bytes: int, seconds: float, spare_bytes: int = SPARE_BYTES
    ) -> None:
        """max_upload_bytes: of a form sent to /v1/documents, which goes to a file. seconds: the longest pause.
        spare_bytes: thrown away at most."""
        self.app, self.max_bytes, self.max_upload_bytes, self.seconds = app, max_bytes, max_upload_bytes, seconds
        self._spare_bytes, self._spare_seconds = spare_bytes, min(seconds, SPARE_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that is watched."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        limit, length = self._limit(scope), headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            most, pause = self._spare_bytes, self._spare_seconds
            return await turn_away(_too_large(limit), scope, receive, send, most=most, seconds=pause)
        seen, is_whole = 0, False

        async def watched() -> Message:
            nonlocal seen, is_whole
            if is_whole:  # now it only tells that the client went away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.seconds)
            except TimeoutError:
                raise Refusal(
                    f"nothing of the body came for {self.seconds:g} s", status=408, headers={"connection": "close"}
                ) from None
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if seen > limit:
                    if not is_whole:
                        await discard(receive, most=self._spare_bytes, seconds=self._spare_seconds)
                    raise _too_large(limit)
            return message

        await self.app(scope, watched, send)

    def _limit(self, scope: Scope) -> int:
        return self.max_upload_bytes if is_form(scope) else self.max_bytes


def _too_large(limit: int) -> Refusal:
    # The rest of the body is not read: the connection cannot go on.
    headers = {"connection": "close"}
    return Refusal(f"the body is larger than {limit} bytes, which is the limit", status=413, headers=headers)
