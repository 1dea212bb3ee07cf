"""The turns of a conversation, checked and in the order in which V4 reads them.

Covers: plain message dicts (the shape of the OpenAI chat protocol) to `Turn`s; tool results folded into user turns,
in the order of the calls they answer. Does not cover: what a turn looks like as text (`chat`). Keys of a message that
mean nothing here are ignored.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from octavo.config.errors import TextError
from octavo.text.special import Special

Message = Mapping[str, Any]


class Role(StrEnum):
    """Who speaks. A tool's answer has no role of its own: it becomes part of a user turn."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    LATEST_REMINDER = "latest_reminder"


class Task(StrEnum):
    """A quick classification asked for with one control token in place of an answer."""

    ACTION = "action"
    QUERY = "query"
    AUTHORITY = "authority"
    DOMAIN = "domain"
    TITLE = "title"
    READ_URL = "read_url"

    @property
    def token(self) -> Special:
        """The control token that asks for this task."""
        return Special[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the assistant made: `arguments` is JSON text, `id` is empty where the client gave none."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a user turn: what the user wrote (`result_of` None), or a tool's answer to the call of that id."""

    text: str
    result_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn. `tools` and `response_format` are JSON texts; `ends` is False for an answer that is to be continued."""

    role: Role
    blocks: tuple[Block, ...]
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    tools: tuple[str, ...] = ()
    response_format: str | None = None
    task: Task | None = None
    ends: bool = True

    @property
    def text(self) -> str:
        """The parts joined by a blank line, tool answers without their marks."""
        return "\n\n".join(block.text for block in self.blocks)


def to_json(value: Any) -> str:
    """JSON as the V4 format spells it: one line, a blank after comma and colon, characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def turns(
    messages: Sequence[Message], *, tools: Sequence[Message] | None = None, response_format: Any = None
) -> list[Turn]:
    """Check `messages` and fold them into turns.

    `tools` (function definitions) and `response_format` (a JSON schema) of the whole conversation go to the first
    message if it is a system message, else to an empty one put before it. Raises TextError naming the message and the
    field at fault.
    """
    if not messages:
        raise TextError("messages is empty: a conversation needs at least one message")
    listed = [dict(_mapping(message, f"messages[{index}]")) for index, message in enumerate(messages)]
    given = {"tools": tools, "response_format": response_format}
    given = {key: value for key, value in given.items() if value}
    if given:
        if listed[0].get("role") != Role.SYSTEM:
            listed.insert(0, {"role": Role.SYSTEM, "content": ""})
        listed[0] |= given
    return _in_call_order(_merged(_turn(message, f"messages[{index}]") for index, message in enumerate(listed)))


def _turn(message: Message, where: str) -> Turn:
    role = message.get("role")
    if role == "tool":
        text = "\n\n".join(_texts(message.get("content"), f"{where}.content"))
        return Turn(role=Role.USER, blocks=(Block(text=text, result_of=str(message.get("tool_call_id") or "")),))
    if role not in tuple(Role):
        raise TextError(f"{where}.role is {role!r}: expected one of {', '.join(Role)}, tool")
    may_be_empty = role in (Role.SYSTEM, Role.ASSISTANT)
    content = "" if message.get("content") is None and may_be_empty else message.get("content")
    texts = _texts(content, f"{where}.content")
    if role in (Role.DEVELOPER, Role.LATEST_REMINDER) and not any(texts):
        raise TextError(f"{where}.content is empty: a {role} message needs text")
    places = {"tools": (Role.SYSTEM, Role.DEVELOPER), "response_format": (Role.SYSTEM, Role.DEVELOPER)}
    for field, roles in (places | {"tool_calls": (Role.ASSISTANT,)}).items():
        if message.get(field) and role not in roles:
            raise TextError(f"{where}.{field} does not belong to a {role} message")
    task = message.get("task")
    if task is not None and task not in tuple(Task):
        raise TextError(f"{where}.task is {task!r}: expected one of {', '.join(Task)}")
    reasoning = message.get("reasoning_content") or ""
    calls = enumerate(message.get("tool_calls") or ())
    return Turn(
        role=Role(role),
        blocks=tuple(Block(text=text) for text in texts),
        reasoning=_text(reasoning, f"{where}.reasoning_content"),
        calls=tuple(_call(call, f"{where}.tool_calls[{index}]") for index, call in calls),
        tools=tuple(to_json(_function(tool, f"{where}.tools")) for tool in message.get("tools") or ()),
        response_format=to_json(message["response_format"]) if message.get("response_format") else None,
        task=None if task is None else Task(task),
        ends=not (message.get("wo_eos") or message.get("prefix")),
    )


def _call(call: Any, where: str) -> ToolCall:
    function = _function(call, where)
    arguments = function.get("arguments", "")
    if isinstance(arguments, Mapping):
        arguments = to_json(arguments)
    return ToolCall(
        name=function["name"],
        arguments=_text(arguments, f"{where}.function.arguments"),
        id=str(call.get("id") or ""),
    )


def _function(item: Any, where: str) -> Message:
    function = _mapping(_mapping(item, where).get("function"), f"{where}.function")
    name = _text(function.get("name"), f"{where}.function.name")
    if not name or any(character in name for character in '"<>\r\n'):
        raise TextError(f"{where}.function.name is {name!r}: it must be one line without quotes and angle brackets")
    return function


def _merged(given: Iterable[Turn]) -> list[Turn]:
    """Join each tool answer, and each user text that follows one without a task between, to the user turn before."""
    merged: list[Turn] = []
    for turn in given:
        before = merged[-1] if merged else None
        is_result = turn.role is Role.USER and turn.blocks[0].result_of is not None
        if before and before.role is turn.role is Role.USER and (is_result or before.task is None):
            merged[-1] = replace(before, blocks=before.blocks + turn.blocks, task=turn.task or before.task)
        else:
            merged.append(turn)
    return merged


def _in_call_order(given: list[Turn]) -> list[Turn]:
    """Put the tool answers of each user turn into the order of the calls before it; texts keep their places."""
    order: dict[str, int] = {}
    ordered: list[Turn] = []
    for turn in given:
        if turn.calls:
            order = {call.id: index for index, call in enumerate(turn.calls) if call.id}
        results = [block for block in turn.blocks if block.result_of is not None]
        unknown = [block.result_of for block in results if block.result_of and block.result_of not in order]
        if unknown and order:
            raise TextError(f"tool_call_id {unknown[0]!r} answers no call: the last calls are {', '.join(order)}")
        in_order = iter(sorted(results, key=lambda block: order.get(block.result_of or "", 0)))
        blocks = tuple(block if block.result_of is None else next(in_order) for block in turn.blocks)
        ordered.append(replace(turn, blocks=blocks))
    return ordered


def _texts(content: Any, where: str) -> tuple[str, ...]:
    """A string, or a list of text parts, to its texts (at least one)."""
    if isinstance(content, str) or not isinstance(content, Sequence):
        return (_text(content, where),)
    texts: list[str] = []
    for index, part in enumerate(content):
        kind = _mapping(part, f"{where}[{index}]").get("type")
        if kind != "text":
            raise TextError(f"{where}[{index}].type is {kind!r}: only text parts are supported")
        texts.append(_text(part.get("text"), f"{where}[{index}].text"))
    return tuple(texts) or ("",)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TextError(f"{where} is {type(value).__name__}: expected a string")
    return value


def _mapping(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise TextError(f"{where} is {type(value).__name__}: expected an object")
    return value
