"""What the front and its replicas tell each other.

Covers: a request on its way to a replica, the parts of an answer on their way back, errors between them. Does not
cover: sending them (`cluster`, `replica`). All of it is pickled; loads neither Ray nor a web library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from octavo.config.errors import OctavoError

Headers = tuple[tuple[bytes, bytes], ...]


class ReplicaLost(OctavoError):
    """The replica that had a request is gone, before the request's answer was whole."""


class AnswerBroken(OctavoError):
    """The replica could not end an answer that it had begun; its log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Where a request should go. owner: the replica that knows its beginning, None for none; loads: requests that each
    replica has now (those not named have none); slack: so many more than the least busy one may the owner have; avoid:
    replicas that were lost on this request."""

    owner: str | None = None
    loads: Mapping[str, int] = field(default_factory=dict)
    slack: int = 1
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request. `body`: its bytes, or the file that holds them; `caller`: whom its tokens are counted for."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    caller: str
    body: bytes | Path
    hint: Hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The first part: the replica that has the request now."""

    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Status and headers."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The last part: tokens of jobs that ended since the last answer, by caller, and lines for the log. `whole` is
    False where the answer broke off."""

    charges: tuple[tuple[str, int], ...] = ()
    lines: tuple[str, ...] = ()
    whole: bool = True


Part = Taken | Head | bytes | Over
"""Bytes are of the body, in order."""
