"""Responses that a later request may read, go on from, cancel or delete.

Covers: the bounded store in memory and those under way. Does not cover: what a response holds (`responses_stream`),
keeping anything beyond the process. Belongs to the event loop: no method may be called from another thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.config.errors import MissingError, UsageError

Response = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A response and the conversation up to and with it, of which the first `inputs` messages are what it answers.
    `size`: characters of both, once it is over."""

    response: Response
    history: tuple[dict[str, Any], ...] = ()
    inputs: int = 0
    size: int = 0


class ResponseStore:
    """The least recently used are forgotten when there are too many or they are too large together: of those that are
    over, which alone count. One that a response under way goes on from stays until that is over, since its client may
    have to begin again from there."""

    def __init__(self, *, most: int = 1024, most_characters: int = 64 * 1024 * 1024) -> None:
        self._most, self._most_characters = most, most_characters
        self._kept: OrderedDict[str, Stored] = OrderedDict()
        self._open: dict[str, Stored] = {}  # kept ones under way
        self._running: dict[str, Callable[[], Response]] = {}
        self._before: dict[str, str] = {}  # by response under way the one that it goes on from
        self._characters = 0

    def begin(
        self, response: Response, cancel: Callable[[], Response], *, store: bool,
        history: Sequence[dict[str, Any]] = (),
    ) -> None:  # fmt: skip
        """A response to the conversation `history` is under way; `cancel` gives it up and returns it. With `store` it
        can be read from now on."""
        id, before = response["id"], response.get("previous_response_id")
        self._running[id] = cancel
        if before is not None:
            self._before[id] = before
        if store:
            said = tuple(history)
            self._open[id] = Stored(response=response, history=said, inputs=len(said))

    def end(self, response: Response, history: Sequence[dict[str, Any]]) -> None:
        """It is over. It is kept with its conversation unless it was not stored or was deleted meanwhile."""
        id = response["id"]
        self._running.pop(id, None)
        self._before.pop(id, None)
        kept = self._open.pop(id, None)
        if kept is not None:
            said, size = tuple(history), _size(response) + _size(history)
            self._kept[id] = Stored(response=response, history=said, inputs=kept.inputs, size=size)
            self._characters += size
        self._forget(but=None if kept is None else id)

    def under_way(self) -> tuple[str, ...]:
        """Ids of responses that are not over."""
        return tuple(self._running)

    def find(self, id: str) -> Stored:
        """The response of that id; MissingError without one."""
        if id in self._open:
            return self._open[id]
        if id not in self._kept:
            raise MissingError(f"response {id[:80]!r} is not stored: it never was, was deleted, or is too long ago")
        self._kept.move_to_end(id)
        return self._kept[id]

    def conversation(self, id: str) -> tuple[dict[str, Any], ...]:
        """What a response that goes on from this one starts with; UsageError where it did not come to its end."""
        stored = self.find(id)
        status = stored.response["status"]
        if status not in ("completed", "incomplete"):
            raise UsageError(f"previous_response_id is {id!r}, which is {status}; it must be completed or incomplete")
        return stored.history

    def cancel(self, id: str) -> Response:
        """Give up a response that is under way and return it; MissingError or UsageError otherwise."""
        if id not in self._running:
            status = self.find(id).response["status"]
            raise UsageError(f"response {id!r} is {status}; only one that is under way can be cancelled")
        return self._running[id]()

    def delete(self, id: str) -> None:
        """Forget a response; MissingError without one. One under way goes on but is not kept."""
        self.find(id)
        if self._open.pop(id, None) is None:
            self._drop(id)

    def check_integrity(self) -> None:
        """Raise AssertionError where the sum of sizes is wrong or a bound is broken."""
        assert self._characters == sum(stored.size for stored in self._kept.values())
        assert set(self._open) <= set(self._running)
        assert set(self._before) <= set(self._running)
        free = set(self._kept) - set(self._before.values())
        assert not self._is_full() or len(free) <= 1

    def _is_full(self) -> bool:
        return len(self._kept) > self._most or self._characters > self._most_characters

    def _forget(self, *, but: str | None) -> None:
        """Keep the bounds; `but`: the newest, which stays whatever its size."""
        used = {but, *self._before.values()} if self._is_full() else set[str | None]()
        for id in [id for id in self._kept if id not in used] if used else ():
            if not self._is_full():
                return
            self._drop(id)

    def _drop(self, id: str) -> None:
        self._characters -= self._kept.pop(id).size


def _size(value: object) -> int:
    """Characters of all strings inside."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items())
    return sum(_size(item) for item in value) if isinstance(value, list | tuple) else 0
