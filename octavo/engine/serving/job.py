"""What the service is asked to make.

Covers: the value and its limits. Does not cover: when it runs (`scheduler`), messages and protocols (`octavo.server`).
Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from octavo.config.errors import LimitError, UsageError
from octavo.engine.mapping import MAX_BINS
from octavo.engine.request import Request

MAX_TOP_LOGPROBS = 20
MAX_PRIORITY = 100
MAX_SCORED_TOKENS = 65_536  # each takes some hundred bytes in memory, and more in an answer


class GrammarKind(StrEnum):
    """How a grammar is written: any JSON object, a JSON schema, a regular expression, llguidance's Lark dialect, or the
    tools that must be called (`calls.calls_source`)."""

    JSON = "json"
    SCHEMA = "schema"
    REGEX = "regex"
    LARK = "lark"
    CALLS = "calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What an answer may say: `source` is a schema as JSON text, a regular expression or a grammar; empty for JSON."""

    kind: GrammarKind
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One sequence to be made; checked on construction (LimitError, UsageError).

    id: unique among jobs that are not over. prompt: ids that begin the sequence or follow the document, at least one.
    document: name in the library of what comes before the prompt. priority: higher ones first, -100 .. 100. salt:
    prefixes are shared only among jobs of equal salt. top_logprobs: None for no log-probabilities, else how many
    alternatives (0 .. 20) come beside each token's own. prompt_logprobs: the same for the tokens of the prompt, which
    is read whole then, whatever is in the cache. grammar: what the answer may say, from the beginning or behind the
    token `grammar_after` (the end of a think block). no_calls: it may hold no tool call. sources: report where in the
    document the answer came from, with `bins` also how attention lay over so many parts of it; quote: make the answer
    of the document's own words (None: as the model was made for). seconds: give up so long after submission, None for
    never.
    """

    id: str
    prompt: tuple[int, ...]
    request: Request = field(default_factory=Request)
    document: str | None = None
    priority: int = 0
    salt: str = ""
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None
    grammar_after: int | None = None
    no_calls: bool = False
    sources: bool = False
    bins: int | None = None
    quote: bool | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UsageError("the prompt has no tokens; a job needs at least one")
        if not -MAX_PRIORITY <= self.priority <= MAX_PRIORITY:
            raise LimitError(f"priority is {self.priority}; it must be from {-MAX_PRIORITY} to {MAX_PRIORITY}")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise LimitError(f"top_logprobs is {self.top_logprobs}; it must be from 0 to {MAX_TOP_LOGPROBS}")
        asked = self.prompt_logprobs
        if asked is not None and not 0 <= asked <= MAX_TOP_LOGPROBS:
            raise LimitError(f"prompt_logprobs is {asked}; it must be from 0 to {MAX_TOP_LOGPROBS}")
        if asked is not None and len(self.prompt) > MAX_SCORED_TOKENS:
            why = f"log-probabilities are given for at most {MAX_SCORED_TOKENS:,}"
            raise LimitError(f"prompt is {len(self.prompt):,} tokens; {why}")
        if self.bins is not None and not 1 <= self.bins <= MAX_BINS:
            raise LimitError(f"bins is {self.bins}; it must be from 1 to {MAX_BINS}")
        if self.bins is not None and not self.sources:
            raise UsageError("bins need sources")
        if self.seconds is not None and not self.seconds > 0:
            raise LimitError(f"seconds is {self.seconds}; it must be above 0")
        if self.document is None and (self.sources or self.quote):
            raise UsageError("sources and quote need a document")
