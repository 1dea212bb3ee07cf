"""One lesson: a conversation or a text to go on with, and which of its tokens are to be learned.

Covers: the format of chat (`octavo.text.chat`), which parts the assistant writes, the check that our own parser reads
them back, tokens and loss weights of many lessons at once. Does not cover: what lessons say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo.config.errors import TextError
from octavo.data.ground import Encode
from octavo.text.chat import ChatOptions, render
from octavo.text.completion import Completion
from octavo.text.message import Message
from octavo.text.parser import parse_completion
from octavo.text.special import Special
from octavo.text.template import Piece


@dataclass(frozen=True, slots=True)
class Part:
    """A control token or a stretch of text; `taught`: the assistant writes it."""

    piece: Piece
    taught: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """kind: dialogue, tool, passage, program, closed_book or open_book. parts: all of it, in order, the first BOS."""

    kind: str
    parts: tuple[Part, ...]

    @property
    def prompt(self) -> tuple[Piece, ...]:
        """What stands before the last answer."""
        first = len(self.parts)
        while first and self.parts[first - 1].taught:
            first -= 1
        return tuple(part.piece for part in self.parts[:first])

    @property
    def answer(self) -> str:
        """The last answer as text, without its end mark."""
        taught = [part.piece for part in self.parts[len(self.prompt) :] if part.piece != Special.EOS]
        return "".join(taught)


def conversation(
    kind: str, messages: Sequence[Message], *, tools: Sequence[Message] = (), thinking: bool = False,
    document: str = "",
) -> Lesson:  # fmt: skip
    """A lesson of whole messages, the last one the assistant's, whose every turn is taught.

    `document` is read before them, as `octavo ask` does. Raises TextError where our own parser does not read the
    assistant's turns back as they were given.
    """
    rendered = render(messages, options=ChatOptions(thinking=thinking, bos=False), tools=tools or None)
    parts = [Part(Special.BOS, False), *([Part(document, False)] if document else [])]
    taught, before = False, Special.BOS
    for piece in rendered:
        if not taught:
            parts.append(Part(piece, False))
            taught = before is Special.ASSISTANT  # this is the think mark, which the prompt ends with
            before = piece
        else:
            parts.append(Part(piece, True))
            taught, before = piece is not Special.EOS, piece
    lesson = Lesson(kind=kind, parts=tuple(parts))
    _check(lesson, [message for message in messages if message["role"] == "assistant"])
    return lesson


def continuation(kind: str, prompt: str, answer: str) -> Lesson:
    """A lesson without roles: `answer` goes on with the text `prompt`."""
    return turns_of_text(kind, [(prompt, answer)])


def turns_of_text(kind: str, turns: Sequence[tuple[str, str]]) -> Lesson:
    """A lesson without roles: texts in turn that are given and that are to be learned; EOS is learned behind the last.
    """
    parts = [Part(text, taught) for pair in turns for text, taught in zip(pair, (False, True), strict=True) if text]
    return Lesson(kind=kind, parts=(Part(Special.BOS, False), *parts, Part(Special.EOS, True)))


def encoded(
    lessons: Sequence[Lesson], encode: Encode, special: Mapping[str, int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each lesson its tokens uint16 [n] and loss weights float32 [n]: 1 where taught, else 0."""
    texts = iter(encode([part.piece for lesson in lessons for part in lesson.parts if not _is_mark(part.piece)]))
    made = []
    for lesson in lessons:
        ids: list[int] = []
        weight: list[float] = []
        for part in lesson.parts:
            new = [special[part.piece]] if _is_mark(part.piece) else next(texts)
            ids += new
            weight += [float(part.taught)] * len(new)
        made.append((np.array(ids, dtype=np.uint16), np.array(weight, dtype=np.float32)))
    return made


def prompt_ids(lesson: Lesson, encode: Encode, special: Mapping[str, int]) -> list[int]:
    """Token ids of `lesson.prompt`."""
    texts = iter(encode([piece for piece in lesson.prompt if not _is_mark(piece)]))
    return [i for piece in lesson.prompt for i in ([special[piece]] if _is_mark(piece) else next(texts))]


def _is_mark(piece: Piece) -> bool:
    return isinstance(piece, Special)


def _turns(lesson: Lesson) -> Iterator[Completion]:
    """What the parser reads in each of the assistant's turns."""
    text: list[str] = []
    before: Piece = ""
    thinking = False
    for part in lesson.parts:
        if part.taught and not text:
            thinking = before is Special.THINK
        if part.taught:
            text.append(part.piece)
            if part.piece is Special.EOS:
                yield parse_completion(text, thinking=thinking)
                text = []
        before = part.piece


def _check(lesson: Lesson, expected: Sequence[Message]) -> None:
    """Raise TextError unless every turn of the assistant is read back as it was given, whole and without repairs."""
    turns = list(_turns(lesson))
    if len(turns) != len(expected):
        raise TextError(f"a {lesson.kind} lesson has {len(expected)} answers, {len(turns)} of them are taught")
    for number, (read, given) in enumerate(zip(turns, expected, strict=True)):
        same = read.content == (given.get("content") or "") and _calls(read) == list(_given(given))
        if not same or read.problems or not read.finished:
            raise TextError(f"answer {number} of a {lesson.kind} lesson is not read back as it was written")


def _calls(read: Completion) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments) if call.complete else None) for call in read.tool_calls]


def _given(message: Message) -> Iterable[tuple[str, Any]]:
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"], json.loads(call["function"]["arguments"])
