"""What the service tells about a job while it makes it.

Covers: the values. Does not cover: making them (`service`), sending them (`octavo.server`). Loads no torch.

A job's events come in this order: any number of Reading, a Scored where the job asked for it, any number of Piece, then
exactly one of Ended, Cancelled and Failed. They are told on the service's own threads, one at a time for each job.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.config.errors import OctavoError
from octavo.engine.answer import Finish, Prefix, Source
from octavo.engine.mapping import AttentionMap

LATE = "the time allowed for the request is over"
"""Why a job is cancelled that took longer than it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of an answer or a prompt: its id, the bytes it stands for, its natural log-probability under the model
    (before temperature and filters), its rank there (1: none is likelier), and the likeliest alternatives, likeliest
    first. Log-probabilities only where asked."""

    id: int
    text: bytes
    logprob: float | None = None
    rank: int | None = None
    top: tuple[tuple[int, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUsage:
    """What a job took. prompt_tokens: of document and prompt together; cached_tokens: those of them that were not read
    again; `prefix` says where they came from. drafted_tokens: what the MTP block proposed; accepted_tokens: what the
    answer went on with of it. Seconds count from submission; first_token_seconds is 0 without one."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefix: Prefix = Prefix.NONE
    queued_seconds: float = 0.0
    first_token_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`done` of `total` prompt (or document) tokens are in the cache; `cache_bytes` the sequence takes."""

    id: str
    done: int
    total: int
    cache_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The prompt's tokens, each with its log-probability behind all before it; the first has none."""

    id: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """More of the answer: text that is certain (maybe none yet) and the tokens made since the last piece."""

    id: str
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The answer is complete. `map`: attention over the document, where the job asked for it. `stop`: the stop string
    that ended it. `seed` repeats it."""

    id: str
    finish: Finish
    usage: JobUsage = field(default_factory=JobUsage)
    sources: tuple[Source, ...] = ()
    map: AttentionMap | None = None
    stop: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The job was given up, by its client, a deadline or the end of the service; what was made is void."""

    id: str
    why: str
    usage: JobUsage = field(default_factory=JobUsage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job cannot go on; other jobs do."""

    id: str
    error: OctavoError
    usage: JobUsage = field(default_factory=JobUsage)


Last = Ended | Cancelled | Failed
Event = Reading | Scored | Piece | Last
