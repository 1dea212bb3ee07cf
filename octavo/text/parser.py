"""Reads a V4 answer while it arrives: reasoning, content, tool calls.

Covers: the text after the prompt, in pieces of any size; marks split anywhere never show up as content; answers that
stop early. Does not cover: ids to text (`detokenizer`), names or schemas of tools (the server checks those). Strict
about the marks (the release's encoder defines them), lenient about white space between them. A string parameter is
raw text in this format, so one that contains its own end mark cannot be told apart.
"""

import json
import re
from collections.abc import Callable, Iterable
from enum import Enum, auto

from octavo.text.completion import (
    Completion,
    ContentDelta,
    Event,
    ParsedCall,
    Problem,
    ReasoningDelta,
    Section,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from octavo.text.message import to_json
from octavo.text.special import Special
from octavo.text.template import CALLS_CLOSE, CALLS_OPEN, INVOKE_CLOSE, INVOKE_OPEN, PARAMETER_CLOSE, PARAMETER_OPEN

_HEAD_LIMIT = 4096  # characters of a name: a longer head is no head
_INVOKE_HEAD = re.compile(r'\s*name="(.*?)">', re.DOTALL)
_PARAMETER_HEAD = re.compile(r'\s*name="(.*?)" string="(true|false)">', re.DOTALL)


class _State(Enum):
    REASONING = auto()
    CONTENT = auto()
    CALLS = auto()  # inside the calls block, outside a call
    INVOKE_HEAD = auto()
    INVOKE = auto()  # inside a call, outside a parameter
    PARAMETER_HEAD = auto()
    STRING = auto()
    JSON = auto()
    AFTER = auto()  # the calls block is closed
    DONE = auto()


_HEAD_ENDS = (PARAMETER_OPEN, PARAMETER_CLOSE, INVOKE_OPEN, INVOKE_CLOSE, CALLS_CLOSE, Special.EOS)
_EOS_AND_MORE = Special.EOS + "\x00"  # holds back a whole EOS too
_IN_CALLS = {_State.CALLS, _State.INVOKE_HEAD, _State.INVOKE, _State.PARAMETER_HEAD, _State.STRING, _State.JSON}


class CompletionParser:
    """State of one answer. `feed` and `close` return events; `completion` is everything so far as one value."""

    def __init__(self, *, thinking: bool) -> None:
        """`thinking`: the prompt left a think block open, so the text begins with reasoning."""
        self._state = _State.REASONING if thinking else _State.CONTENT
        self._buffer = ""
        self._events: list[Event] = []
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._calls: list[_Call] = []
        self._problems: list[str] = []
        self._value: list[str] = []  # text of the JSON parameter being read
        self._junk = 0  # characters dropped since the last mark
        self._truncated: Section | None = None
        self._steps: dict[_State, Callable[[], bool]] = {
            _State.REASONING: self._read_reasoning,
            _State.CONTENT: self._read_content,
            _State.CALLS: self._read_calls,
            _State.INVOKE_HEAD: self._read_invoke_head,
            _State.INVOKE: self._read_invoke,
            _State.PARAMETER_HEAD: self._read_parameter_head,
            _State.STRING: self._read_string,
            _State.JSON: self._read_json,
            _State.AFTER: self._read_after,
            _State.DONE: self._read_done,
        }

    def feed(self, text: str) -> list[Event]:
        """Take the next piece of text and return what is certain now."""
        self._buffer += text
        while self._buffer and self._steps[self._state]():
            pass
        return self._taken()

    def close(self) -> list[Event]:
        """No more text will come: return what was held back, and end what is open. Calling it again returns nothing."""
        in_mark = "｜" in self._buffer  # with a full-width bar it is the start of a mark, not text that looks like one
        rest = "" if in_mark else self._buffer
        if self._state is _State.REASONING:
            self._give(rest, self._reasoning, ReasoningDelta)
            self._truncated = Section.REASONING
        elif self._state is _State.CONTENT:
            self._give(rest, self._content, ContentDelta)
            self._truncated = Section.TOOL_CALLS if "<｜D" in self._buffer else None
        elif self._state in _IN_CALLS:
            if self._state is _State.STRING:
                self._give_arguments(_escaped(rest))
            elif self._state is _State.JSON:
                self._give_arguments("".join(self._value) + rest)
            self._cut_short()
        self._report_junk()
        finished = self._state is _State.DONE or self._buffer == Special.EOS
        self._state = _State.DONE if finished else _State.AFTER
        self._buffer = ""
        return self._taken()

    @property
    def completion(self) -> Completion:
        """The answer as read so far; `truncated` is known after `close`."""
        return Completion(
            reasoning="".join(self._reasoning),
            content="".join(self._content),
            tool_calls=tuple(call.parsed() for call in self._calls),
            finished=self._state is _State.DONE,
            truncated=self._truncated,
            problems=tuple(self._problems),
        )

    def _read_reasoning(self) -> bool:
        opener = "\n\n" + CALLS_OPEN
        mark = self._give_until((Special.END_THINK, opener, Special.EOS), self._reasoning, ReasoningDelta)
        if mark == Special.END_THINK:
            self._state = _State.CONTENT
        elif mark == opener:
            self._state = _State.CALLS
            self._problem(f"tool calls began before {Special.END_THINK}")
        elif mark == Special.EOS:
            self._state = _State.DONE
            self._truncated = Section.REASONING
        return mark is not None

    def _read_content(self) -> bool:
        if not self._content:  # at the very start the blank line before the calls may be missing
            if self._buffer.startswith(CALLS_OPEN):
                self._buffer = self._buffer.removeprefix(CALLS_OPEN)
                self._state = _State.CALLS
                return True
            if CALLS_OPEN.startswith(self._buffer):
                return False
        openers = ("\n\n" + CALLS_OPEN, "\n" + CALLS_OPEN)
        mark = self._give_until((*openers, Special.EOS), self._content, ContentDelta)
        if mark is not None:
            self._state = _State.DONE if mark == Special.EOS else _State.CALLS
        return mark is not None

    def _read_calls(self) -> bool:
        mark = self._skip_to((INVOKE_OPEN, CALLS_CLOSE, Special.EOS))
        if mark == INVOKE_OPEN:
            self._state = _State.INVOKE_HEAD
        elif mark == CALLS_CLOSE:
            self._state = _State.AFTER
        elif mark == Special.EOS:
            self._cut_short()
            self._state = _State.DONE
        return mark is not None

    def _read_invoke_head(self) -> bool:
        head = self._head(_INVOKE_HEAD, otherwise=_State.CALLS)
        if head is None:
            return self._state is _State.CALLS
        self._calls.append(_Call(head[1]))
        self._events.append(ToolCallStart(len(self._calls) - 1, head[1]))
        self._state = _State.INVOKE
        return True

    def _read_invoke(self) -> bool:
        mark = self._skip_to((PARAMETER_OPEN, INVOKE_CLOSE, CALLS_CLOSE, Special.EOS))
        if mark == PARAMETER_OPEN:
            self._state = _State.PARAMETER_HEAD
        elif mark == Special.EOS:
            self._cut_short()
            self._state = _State.DONE
        elif mark is not None:
            if mark == CALLS_CLOSE:
                self._problem(f"the call to {self._calls[-1].name} has no end mark")
            self._end_call(complete=True)
            self._state = _State.CALLS if mark == INVOKE_CLOSE else _State.AFTER
        return mark is not None

    def _read_parameter_head(self) -> bool:
        head = self._head(_PARAMETER_HEAD, otherwise=_State.INVOKE)
        if head is None:
            return self._state is _State.INVOKE
        call = self._calls[-1]
        if head[1] in call.keys:
            self._problem(f"parameter {head[1]!r} of {call.name} came twice; the last one counts")
        self._give_arguments(("{" if not call.keys else ", ") + f"{to_json(head[1])}: ")
        call.keys.add(head[1])
        self._state = _State.STRING if head[2] == "true" else _State.JSON
        if self._state is _State.STRING:
            self._give_arguments('"')
        return True

    def _read_string(self) -> bool:
        if self._take_value(lambda text: self._give_arguments(_escaped(text))):
            self._give_arguments('"')
            self._state = _State.INVOKE
        return self._state is _State.INVOKE

    def _read_json(self) -> bool:
        if self._take_value(self._value.append):
            value = "".join(self._value)
            self._value.clear()
            if not _is_json(value):
                self._problem(f"a parameter of {self._calls[-1].name} is not JSON and was taken as a string")
                value = to_json(value)
            self._give_arguments(value)
            self._state = _State.INVOKE
        return self._state is _State.INVOKE

    def _take_value(self, take: Callable[[str], None]) -> bool:
        """Hand on what belongs to a parameter; True at its end mark. EOS ends it only where nothing follows."""
        return self._take_until((PARAMETER_CLOSE,), take, held=(PARAMETER_CLOSE, _EOS_AND_MORE)) is not None

    def _read_after(self) -> bool:
        mark = self._skip_to((CALLS_OPEN, Special.EOS))
        if mark is not None:
            self._state = _State.CALLS if mark == CALLS_OPEN else _State.DONE
        return mark is not None

    def _read_done(self) -> bool:
        self._junk += _visible(self._buffer)
        self._buffer = ""
        return False

    def _take_until(
        self, marks: tuple[str, ...], take: Callable[[str], None], held: tuple[str, ...] | None = None
    ) -> str | None:
        """Hand the text before the first of `marks` to `take`, drop the mark; with none, what cannot begin a `held`."""
        found = [(at, mark) for mark in marks if (at := self._buffer.find(mark)) >= 0]
        at, mark = min(found) if found else (len(self._buffer) - _held(self._buffer, held or marks), None)
        text, self._buffer = self._buffer[:at], self._buffer[at + len(mark or "") :]
        if text:
            take(text)
        return mark

    def _give_until(self, marks: tuple[str, ...], into: list[str], delta: Callable[[str], Event]) -> str | None:
        return self._take_until(marks, lambda text: self._give(text, into, delta))

    def _skip_to(self, marks: tuple[str, ...]) -> str | None:
        """Like `_take_until` where only white space belongs: anything else is a problem and is dropped."""

        def drop(text: str) -> None:
            self._junk += _visible(text)

        mark = self._take_until(marks, drop)
        if mark is not None:
            self._report_junk()
        return mark

    def _report_junk(self) -> None:
        if self._junk:
            self._problem(f"{self._junk} characters that belong to no part of the answer were dropped")
        self._junk = 0

    def _head(self, pattern: re.Pattern[str], *, otherwise: _State) -> re.Match[str] | None:
        """Take the head of a call or parameter. None: it is not there yet, or it is bad and the state `otherwise`."""
        ends = [at for mark in _HEAD_ENDS if (at := self._buffer.find(mark)) >= 0]
        limit = min([*ends, _HEAD_LIMIT])
        head = pattern.match(self._buffer[:limit])
        if head is not None:
            self._buffer = self._buffer[head.end() :]
        elif len(self._buffer) > limit or ends:
            self._problem("a call or parameter has no readable name")
            self._state = otherwise
        return head

    def _give(self, text: str, into: list[str], delta: Callable[[str], Event]) -> None:
        if text:
            into.append(text)
            self._events.append(delta(text))

    def _give_arguments(self, text: str) -> None:
        if text:
            self._calls[-1].arguments.append(text)
            self._events.append(ToolCallDelta(len(self._calls) - 1, text))

    def _end_call(self, *, complete: bool) -> None:
        call = self._calls[-1]
        if complete:
            self._give_arguments("}" if call.keys else "{}")
        call.is_open, call.complete = False, complete
        self._events.append(ToolCallEnd(len(self._calls) - 1, complete))

    def _cut_short(self) -> None:
        """The text ended inside the calls block."""
        self._truncated = Section.TOOL_CALLS
        if self._calls and self._calls[-1].is_open:
            self._end_call(complete=False)

    def _problem(self, message: str) -> None:
        self._problems.append(message)
        self._events.append(Problem(message))

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events


class _Call:
    """A call while it is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: set[str] = set()
        self.arguments: list[str] = []
        self.is_open = True
        self.complete = False

    def parsed(self) -> ParsedCall:
        return ParsedCall(name=self.name, arguments="".join(self.arguments), complete=self.complete)


def parse_completion(text: str | Iterable[str], *, thinking: bool) -> Completion:
    """Read a whole answer, given at once or in pieces."""
    parser = CompletionParser(thinking=thinking)
    for piece in [text] if isinstance(text, str) else text:
        parser.feed(piece)
    parser.close()
    return parser.completion


def _held(text: str, marks: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that one of `marks` begins with."""
    longest = min(len(text), max(map(len, marks)) - 1)
    return next((size for size in range(longest, 0, -1) if any(mark.startswith(text[-size:]) for mark in marks)), 0)


def _visible(text: str) -> int:
    """Number of characters that are not white space."""
    return len("".join(text.split()))


def _escaped(text: str) -> str:
    """`text` as the inside of a JSON string."""
    return to_json(text)[1:-1]


def _is_json(text: str) -> bool:
    """True for one JSON value by the letter of the standard (no NaN), with numbers of any size."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True
