"""What comes back from a question, a completion or a conversation.

Covers: the values and their plain form for JSON. Does not cover: making them. Loads no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from octavo.text.completion import Completion


class Finish(StrEnum):
    """Why an answer ended: the model's end token, a stop string, `max_tokens`, or the end of the context."""

    END = "end"
    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"


class Prefix(StrEnum):
    """Where the state came from that an answer went on from: nowhere (all of it was read), a state in memory, a
    snapshot in a file, or a file whose last tokens had to be read again."""

    NONE = "none"
    MEMORY = "memory"
    SNAPSHOT = "snapshot"
    RECOMPUTED = "recomputed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place that the answer came from: characters (code points) start .. end - 1 of `file`, and its share of the
    attention that fell on the document (0..1; all sources of an answer together at most 1).

    `text` is never empty. Characters are counted in the file as stored: a byte order mark is one and CR LF two, so in
    Python `text == Path(file).read_bytes().decode()[start:end]`.
    """

    file: str
    start: int
    end: int
    text: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an answer, or the reading of a document, took.

    read_tokens: document tokens that the model read for it. reused_tokens: document tokens that were in the cache
    already. drafted_tokens, accepted_tokens: tokens that the MTP block proposed, and those of them that the answer went
    on with. cache_bytes: the sequence's bytes at the end (pages that it shares counted in full). seconds: wall clock.
    """

    read_tokens: int = 0
    reused_tokens: int = 0
    question_tokens: int = 0
    answer_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    seconds: float = 0.0
    cache_bytes: int = 0
    prefix: Prefix = Prefix.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer's text, its best sources first (none without a document), and what it took; `seed` repeats it."""

    text: str
    sources: tuple[Source, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish: Finish
    token_ids: tuple[int, ...] = ()
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The form that `octavo ask --json` prints."""
        return {
            "answer": self.text,
            "sources": [asdict(source) for source in self.sources],
            "usage": asdict(self.usage) | {"finish": str(self.finish)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One turn of a conversation: what the model said, read as reasoning, content and tool calls."""

    completion: Completion
    sources: tuple[Source, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish: Finish

    @property
    def text(self) -> str:
        """The content, without reasoning and tool calls."""
        return self.completion.content
