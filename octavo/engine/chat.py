"""One turn of a conversation.

Covers: messages to a prompt, the answer read back as reasoning, content and tool calls, events while it arrives. Does
not cover: the format itself (`octavo.text.chat`, `octavo.text.parser`), keeping a conversation (`conversation`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.engine.answer import Reply, Usage
from octavo.engine.attention import MassTally
from octavo.engine.generation import Generation
from octavo.engine.request import Request, RequestFields
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.completion import Event
from octavo.text.message import Message
from octavo.text.parser import CompletionParser
from octavo.text.template import Effort, Profile

if TYPE_CHECKING:
    from octavo.engine.llm import LLM


def answer_chat(
    llm: LLM,
    messages: Sequence[Message],
    *,
    state: SequenceState,
    base: int | None = None,
    tally: MassTally | None = None,
    thinking: bool = False,
    effort: Effort = Effort.LOW,
    profile: Profile = Profile.FINAL,
    tools: Sequence[Message] | None = None,
    response_format: Any = None,
    controls: Controls | None = None,
    on_event: Callable[[Event], None] | None = None,
    **request: Unpack[RequestFields],
) -> Reply:
    """Make the assistant's next turn after `messages` on `state`, which may hold a document or be empty.

    `base`: tokens of the document, where the state goes on beyond it with earlier turns (default: it does not). Of
    those the part that begins this prompt is kept, the rest is rolled back. The state afterwards holds the prompt and
    the answer. Raises TextError for messages that are no conversation, LimitError when they do not fit into the
    context.
    """
    started = time.perf_counter()
    base = state.length if base is None else base
    options = ChatOptions(thinking=thinking, effort=effort, profile=profile, bos=base == 0)
    prompt = encode_chat(llm.tokenizer, messages, options=options, tools=tools, response_format=response_format)
    kept = _common(state.tokens[base:], prompt)
    llm.runner.check_room(len(prompt) - kept, base + kept, what="the conversation")
    state.rollback(state.length - base - kept)
    made = Generation(
        llm.runner, llm.tokenizer, state, prompt[kept:], Request(**request), controls=controls, tally=tally
    )
    parser = CompletionParser(thinking=thinking)
    for piece in made:
        _tell(parser.feed(piece), on_event)
    _tell(parser.close(), on_event)
    usage = Usage(
        reused_tokens=kept,
        question_tokens=len(prompt) - kept,
        answer_tokens=len(made.token_ids),
        drafted_tokens=made.drafted_tokens,
        accepted_tokens=made.accepted_tokens,
        seconds=time.perf_counter() - started,
        cache_bytes=state.nbytes,
    )
    return Reply(completion=parser.completion, usage=usage, finish=made.finish_reason)


def _common(before: np.ndarray, prompt: Sequence[int]) -> int:
    """Tokens that both begin with, leaving at least one of the prompt to read."""
    n = min(len(before), len(prompt) - 1)
    differ = np.flatnonzero(before[:n] != np.array(prompt[:n]))
    return int(differ[0]) if len(differ) else n


def _tell(events: list[Event], on_event: Callable[[Event], None] | None) -> None:
    if on_event is not None:
        for event in events:
            on_event(event)
