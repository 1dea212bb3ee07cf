"""What a model's answer consists of, as events while it arrives and as one value at its end.

Covers: the types that `parser` gives out. Does not cover: finding them in text.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the think block."""

    text: str


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """Call number `index` (from 0) has begun and has this name."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the arguments of call `index`: the deltas of a complete call, joined, are one JSON object."""

    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """Call `index` is over; not `complete` where the text stopped inside it."""

    index: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """The text broke the format here; what it says was left out or repaired, never given out as content."""

    message: str


Event = ReasoningDelta | ContentDelta | ToolCallStart | ToolCallDelta | ToolCallEnd | Problem


class Section(StrEnum):
    """A part of an answer that it can stop in."""

    REASONING = "reasoning"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """A call found in an answer; `arguments` is JSON text, cut short where not `complete`."""

    name: str
    arguments: str
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole answer. `finished`: EOS was seen as text. `truncated`: the part whose end mark is missing."""

    reasoning: str
    content: str
    tool_calls: tuple[ParsedCall, ...]
    finished: bool
    truncated: Section | None
    problems: tuple[str, ...]

    def message(self) -> dict[str, Any]:
        """The answer as a message that `chat` can write again; calls that were cut short are left out."""
        calls = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self.tool_calls
            if call.complete
        ]
        answer = {"role": "assistant", "content": self.content, "reasoning_content": self.reasoning}
        return answer | ({"tool_calls": calls} if calls else {})
