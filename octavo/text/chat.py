"""A conversation as the prompt of a V4 model: text or token ids.

Covers: roles, thinking and non-thinking mode, which past reasoning is kept, tools, response format, task tokens,
effort prefixes of both releases. Does not cover: reading an answer back (`parser`), images, V4.1. In the ids only
this module's own control tokens are control tokens: the same spellings inside a message stay ordinary text. Rules:
architecture.md of DeepSeek-V4, chat encoding; the release's encoder decides where prose is silent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from octavo.text.message import Message, Role, Task, Turn, turns
from octavo.text.special import Special
from octavo.text.template import (
    EFFORT_PREFIX,
    Effort,
    Piece,
    Profile,
    calls_block,
    response_format_block,
    tool_result,
    tools_block,
)
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How to write a conversation.

    thinking: leave the answer's think block open, so that the model reasons first.
    effort: prefix before everything else, in thinking mode only. profile: the release whose prefixes are meant.
    drop_thinking: leave out reasoning from before the last user turn; never done once a message defines tools.
    bos: begin with the BOS token; False for a question that goes on from a document.
    """

    thinking: bool = False
    effort: Effort = Effort.LOW
    profile: Profile = Profile.FINAL
    drop_thinking: bool = True
    bos: bool = True


def render(
    messages: Sequence[Message],
    *,
    options: ChatOptions | None = None,
    tools: Sequence[Message] | None = None,
    response_format: Any = None,
) -> list[Piece]:
    """The prompt as control tokens and stretches of text, no two texts in a row. Raises TextError as `turns` does."""
    options = options or ChatOptions()
    given = turns(messages, tools=tools, response_format=response_format)
    drops = options.drop_thinking and not any(turn.tools for turn in given)
    options = replace(options, drop_thinking=drops)
    if drops and options.thinking:
        last_user = _last_user(given)
        given = [turn for index, turn in enumerate(given) if turn.role is not Role.DEVELOPER or index >= last_user]
    pieces: list[Piece] = [Special.BOS] if options.bos else []
    if options.thinking:
        pieces.append(EFFORT_PREFIX[options.profile, options.effort])
    for index in range(len(given)):
        pieces += _turn(given, index, options) + _transition(given, index, options)
    return _joined(pieces)


def render_text(
    messages: Sequence[Message],
    *,
    options: ChatOptions | None = None,
    tools: Sequence[Message] | None = None,
    response_format: Any = None,
) -> str:
    """The prompt as one string: for people and for byte comparison. Encode with `encode_chat`, not from this text."""
    return "".join(render(messages, options=options, tools=tools, response_format=response_format))


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    options: ChatOptions | None = None,
    tools: Sequence[Message] | None = None,
    response_format: Any = None,
) -> list[int]:
    """The prompt as token ids."""
    ids: list[int] = []
    for piece in render(messages, options=options, tools=tools, response_format=response_format):
        if isinstance(piece, Special):
            ids.append(tokenizer.special(piece))
        else:
            ids += tokenizer.encode(piece)
    return ids


def _turn(given: list[Turn], index: int, options: ChatOptions) -> list[Piece]:
    """One turn without what leads over to the next."""
    turn = given[index]
    if turn.role is Role.USER:
        parts = [block.text if block.result_of is None else tool_result(block.text) for block in turn.blocks]
        return [Special.USER, "\n\n".join(parts)]
    if turn.role is Role.LATEST_REMINDER:
        return [Special.LATEST_REMINDER, turn.text]
    if turn.role is Role.ASSISTANT:
        answers_task = index > 0 and given[index - 1].task is not None
        kept = not options.drop_thinking or index > _last_user(given)
        thought = [turn.reasoning, Special.END_THINK] if options.thinking and kept and not answers_task else []
        return [*thought, turn.text, *calls_block(turn.calls), *([Special.EOS] if turn.ends else [])]
    pieces: list[Piece] = [Special.USER] if turn.role is Role.DEVELOPER else []
    pieces.append(turn.text)
    if turn.tools:
        pieces += ["\n\n", *tools_block(turn.tools)]
    if turn.response_format is not None:
        pieces += ["\n\n", response_format_block(turn.response_format)]
    return pieces


def _transition(given: list[Turn], index: int, options: ChatOptions) -> list[Piece]:
    """What follows a turn that is to be answered: its task token, or the assistant mark and a think mark."""
    turn = given[index]
    if index + 1 < len(given) and given[index + 1].role not in (Role.ASSISTANT, Role.LATEST_REMINDER):
        return []
    if turn.task is Task.ACTION:
        return [Special.ASSISTANT, Special.THINK if options.thinking else Special.END_THINK, turn.task.token]
    if turn.task is not None:
        return [turn.task.token]
    if turn.role not in (Role.USER, Role.DEVELOPER):
        return []
    opens = options.thinking and (not options.drop_thinking or index >= _last_user(given))
    return [Special.ASSISTANT, Special.THINK if opens else Special.END_THINK]


def _last_user(given: list[Turn]) -> int:
    """Index of the last turn that the user side spoke (tool answers included), -1 for none."""
    return max((index for index, turn in enumerate(given) if turn.role in (Role.USER, Role.DEVELOPER)), default=-1)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join neighbouring texts (a tokenizer must see them whole) and leave out empty ones."""
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Special) or not joined or isinstance(joined[-1], Special):
            joined.append(piece)
        else:
            joined[-1] += piece
        if not joined[-1]:
            joined.pop()
    return joined
