"""One turn of a conversation, whatever protocol asked for it.

Covers: messages to a job, its events read as reasoning, content, tool calls and tokens, several turns at once. Does
not cover: protocols (`protocol`), the chat format (`octavo.text`), the service. Loads no torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from octavo.config.errors import TextError, UsageError
from octavo.engine.request import MAX_SEED, Request
from octavo.engine.serving.events import Ended, Piece, Reading, Scored, Token
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.server.bridge import Bridge, Submission
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.completion import Completion, ContentDelta, Event, ToolCallStart
from octavo.text.parser import CompletionParser
from octavo.text.special import Special
from octavo.text.template import Effort
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """What a client wants said next.

    messages, tools: in the shape of the OpenAI protocol (`octavo.text.message`). tool_choice: "auto"; "none" to leave
    the tools out and keep calls out of the answer; "required" where `grammar` is one of calls. response_format: a JSON
    schema that the prompt tells; grammar: what the answer is held to.
    document: name of a document in the library that comes before the conversation. The other fields: see `Job`.
    """

    messages: Sequence[Mapping[str, Any]]
    request: Request = field(default_factory=Request)
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str = "auto"
    response_format: Mapping[str, Any] | None = None
    grammar: Grammar | None = None
    thinking: bool = False
    effort: Effort = Effort.LOW
    document: str | None = None
    sources: bool = False
    bins: int | None = None
    quote: bool | None = None
    salt: str = ""
    priority: int = 0
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensMade:
    """Tokens that the events after this one come from; `reasoning`: they are part of the think block."""

    tokens: tuple[Token, ...]
    reasoning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """The whole answer, how it ended, and how many of its tokens were reasoning (the end mark included)."""

    completion: Completion
    ended: Ended
    reasoning_tokens: int


T = TypeVar("T", covariant=True)


class Source(Protocol[T]):
    """What `merged` takes: something to iterate over once, and to close."""

    def __aiter__(self) -> AsyncIterator[T]: ...
    def close(self) -> None: ...


TurnEvent = Event | Reading | Scored | TokensMade | TurnEnd


class Turn:
    """A turn under way. Iterate once: any number of events, then exactly one TurnEnd.

    Raises CancelledJob where the service gave it up, and the service's own error where it failed. `close` cancels it;
    whoever stops iterating early calls it.
    """

    def __init__(self, submission: Submission, *, prompt_tokens: int, thinking: bool, end_think: int) -> None:
        self.id, self.prompt_tokens = submission.id, prompt_tokens
        self._submission, self._thinking, self._end_think = submission, thinking, end_think

    async def __aiter__(self) -> AsyncIterator[TurnEvent]:
        parser = CompletionParser(thinking=self._thinking)
        in_reasoning, reasoning_tokens = self._thinking, 0
        try:
            async for event in self._submission:
                if isinstance(event, Reading | Scored):
                    yield event
                    continue
                if isinstance(event, Piece):
                    thought, said = self._split(event.tokens) if in_reasoning else ((), event.tokens)
                    reasoning_tokens += len(thought)
                    if thought:
                        yield TokensMade(tokens=thought, reasoning=True)
                    if said:
                        in_reasoning = False
                        yield TokensMade(tokens=said)
                    found = parser.feed(event.text)
                else:
                    found = parser.close()
                for part in found:
                    in_reasoning = in_reasoning and not isinstance(part, ContentDelta | ToolCallStart)
                    yield part
                if isinstance(event, Ended):
                    yield TurnEnd(completion=parser.completion, ended=event, reasoning_tokens=reasoning_tokens)
        finally:
            self.close()

    def close(self) -> None:
        """Cancel the turn unless it is over."""
        self._submission.close()

    def _split(self, tokens: tuple[Token, ...]) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
        """Tokens up to and with the end of the think block, and those after it."""
        ends = next((place + 1 for place, token in enumerate(tokens) if token.id == self._end_think), len(tokens))
        return tokens[:ends], tokens[ends:]


class Turns:
    """Starts turns on one service."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    @property
    def tokenizer(self) -> Tokenizer:
        """The served model's."""
        return self._bridge.service.llm.tokenizer

    def request(self, asked: Request, place: int) -> Request:
        """The request of answer number `place`: its own seed, and no more tokens than a context holds."""
        most = self._bridge.service.llm.config.max_position_embeddings
        seed = None if asked.seed is None else (asked.seed + place) % (MAX_SEED + 1)
        return replace(asked, max_tokens=min(asked.max_tokens, most), seed=seed)

    async def start(self, call: ChatCall) -> Turn:
        """Encode and submit. Raises TextError for messages that are no conversation, and what `Job` and
        `Service.submit` raise: LimitError, UsageError, BusyError, MissingError."""
        return (await self.start_all(call, 1))[0]

    async def start_all(self, call: ChatCall, count: int) -> list[Turn]:
        """`count` answers to one prompt, of the seeds `seed`, `seed` + 1, and so on; all of them start, or none."""
        prompt = await self._bridge.run_blocking(self.prompt, call)
        end_think = self.tokenizer.special(Special.END_THINK)
        turns: list[Turn] = []
        try:
            for place in range(count):
                submission = await self._bridge.submit(self._job(call, prompt, place))
                turns.append(Turn(submission, prompt_tokens=len(prompt), thinking=call.thinking, end_think=end_think))
        except BaseException:
            for turn in turns:
                turn.close()
            raise
        return turns

    def prompt(self, call: ChatCall) -> tuple[int, ...]:
        """The ids that a call is read as, without its document. Blocking: long conversations take a while."""
        forced = call.grammar is not None and call.grammar.kind is GrammarKind.CALLS
        if call.tool_choice not in ("auto", "none", "required") or (call.tool_choice == "required") is not forced:
            why = "with a grammar of calls it must be required, and without one auto or none"
            raise UsageError(f"tool_choice is {call.tool_choice!r}; {why}")
        options = ChatOptions(thinking=call.thinking, effort=call.effort, bos=call.document is None)
        try:
            ids = encode_chat(
                self.tokenizer,
                call.messages,
                options=options,
                tools=None if call.tool_choice == "none" else call.tools,
                response_format=call.response_format,
            )
        except RecursionError:
            raise TextError("messages or tools are nested too deeply") from None
        return tuple(ids)

    def _job(self, call: ChatCall, prompt: tuple[int, ...], place: int) -> Job:
        """The job of answer number `place`."""
        return Job(
            id=uuid4().hex,
            prompt=prompt,
            request=self.request(call.request, place),
            document=call.document,
            priority=call.priority,
            salt=call.salt,
            top_logprobs=call.top_logprobs,
            prompt_logprobs=call.prompt_logprobs if place == 0 else None,
            grammar=call.grammar,
            grammar_after=self.tokenizer.special(Special.END_THINK) if call.thinking and call.grammar else None,
            no_calls=call.tool_choice == "none" and _knows_calls(call),
            sources=call.sources,
            bins=call.bins,
            quote=call.quote,
            seconds=call.seconds,
        )


def _knows_calls(call: ChatCall) -> bool:
    """Whether a model could come to call tools: it is shown some, or calls of before."""
    named = ("tools", "tool_calls")
    return bool(call.tools) or any(message.get(name) for message in call.messages for name in named)


async def merged(sources: Sequence[Source[T]]) -> AsyncGenerator[tuple[int, T], None]:
    """What several turns (or submissions) tell as it comes, each with its place among them, until all are over.

    An error of one ends it. However it ends, all of them are closed.
    """
    arrived: asyncio.Queue[tuple[int, T | BaseException | None]] = asyncio.Queue()

    async def pump(place: int, source: Source[T]) -> None:
        try:
            async for event in source:
                arrived.put_nowait((place, event))
            arrived.put_nowait((place, None))
        except Exception as error:
            arrived.put_nowait((place, error))

    pumps = [asyncio.create_task(pump(place, source)) for place, source in enumerate(sources)]
    left = len(pumps)
    try:
        while left:
            place, event = await arrived.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                left -= 1
            else:
                yield place, event
    finally:
        for source in sources:
            source.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
