"""Turns: the prompt of a call, its answer read as events, several answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from octavo.config.errors import BusyError, LimitError, TextError, UsageError
from octavo.engine.answer import Finish
from octavo.engine.request import MAX_SEED, Request
from octavo.engine.serving.events import Cancelled, Ended, Failed, Reading
from octavo.engine.serving.job import Grammar, GrammarKind, Job
from octavo.engine.serving.service import Service
from octavo.server.bridge import Bridge
from octavo.server.errors import CancelledJob
from octavo.server.turn import ChatCall, TokensMade, TurnEnd, TurnEvent, Turns, merged
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.completion import ContentDelta, ReasoningDelta, ToolCallDelta, ToolCallEnd, ToolCallStart
from octavo.text.special import Special
from octavo.text.template import CALLS_CLOSE, CALLS_OPEN, INVOKE_CLOSE, INVOKE_OPEN, PARAMETER_CLOSE, PARAMETER_OPEN
from tests.support.serving import Overheard, Scripted, running, said, tiny_service

ASKED = [{"role": "user", "content": "Who wrote the page?"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL = (
    f"\n\n{CALLS_OPEN}\n{INVOKE_OPEN} name=\"look\">\n{PARAMETER_OPEN} name=\"at\" string=\"true\">the sea"
    f"{PARAMETER_CLOSE}\n{INVOKE_CLOSE}\n{CALLS_CLOSE}"
)  # fmt: skip
ENDED = Ended(id="a", finish=Finish.END)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tiny_service(tmp_path_factory.mktemp("model"))) as made:
        yield made


def call(tokens: int = 6, seed: int | None = None, temperature: float = 0.0, **fields: object) -> ChatCall:
    request = Request(max_tokens=tokens, seed=seed, temperature=temperature)
    return ChatCall(messages=ASKED, request=request, **fields)


async def events_of(turns: Turns, asked: ChatCall) -> list[TurnEvent]:
    return [event async for event in await turns.start(asked)]


def scripted(service: Service, *texts: str, last: object = ENDED) -> Turns:
    pieces = said(*texts, tokenizer=service.llm.tokenizer)
    return Turns(Bridge(Scripted(*pieces, last, llm=service.llm)))


def test_prompt_is_the_conversation_as_the_format_writes_it(service: Service) -> None:
    turns, tokenizer = Turns(Bridge(service)), service.llm.tokenizer
    assert list(turns.prompt(call())) == encode_chat(tokenizer, ASKED)
    thinking = encode_chat(tokenizer, ASKED, options=ChatOptions(thinking=True))
    assert list(turns.prompt(call(thinking=True))) == thinking
    assert list(turns.prompt(call(document="book"))) == encode_chat(tokenizer, ASKED, options=ChatOptions(bos=False))
    assert list(turns.prompt(call(tools=TOOLS))) == encode_chat(tokenizer, ASKED, tools=TOOLS)
    assert list(turns.prompt(call(tools=TOOLS, tool_choice="none"))) == encode_chat(tokenizer, ASKED)
    schema = {"type": "object"}
    assert list(turns.prompt(call(response_format=schema))) == encode_chat(tokenizer, ASKED, response_format=schema)


@pytest.mark.parametrize(("choice", "kind"), [("required", None), ("look", None), ("auto", GrammarKind.CALLS)])
def test_a_forced_choice_needs_its_grammar(service: Service, choice: str, kind: GrammarKind | None) -> None:
    grammar = None if kind is None else Grammar(kind=kind, source="{}")
    with pytest.raises(UsageError, match="tool_choice is"):
        Turns(Bridge(service)).prompt(call(tools=TOOLS, tool_choice=choice, grammar=grammar))


def test_calls_are_kept_out_where_none_are_wanted(service: Service) -> None:
    made = Turns(Bridge(service))
    earlier = [{"role": "assistant", "content": "", "tool_calls": [{}]}]
    assert made._job(call(tools=TOOLS, tool_choice="none"), (1,), 0).no_calls
    assert made._job(replace(call(tool_choice="none"), messages=earlier), (1,), 0).no_calls
    assert not made._job(call(tool_choice="none"), (1,), 0).no_calls  # nothing speaks of tools there
    assert not made._job(call(tools=TOOLS), (1,), 0).no_calls


def test_a_grammar_begins_behind_the_reasoning(service: Service) -> None:
    made = Turns(Bridge(service))
    grammar = Grammar(kind=GrammarKind.JSON)
    end = service.llm.tokenizer.special(Special.END_THINK)
    for thinking, after in ((True, end), (False, None)):
        asked = call(thinking=thinking, grammar=grammar)
        assert made._job(asked, made.prompt(asked), 0).grammar_after == after


def test_messages_that_are_no_conversation_are_refused(service: Service) -> None:
    turns = Turns(Bridge(service))
    with pytest.raises(TextError, match="lone surrogate"):
        turns.prompt(replace(call(), messages=[{"role": "user", "content": "\ud800"}]))
    with pytest.raises(TextError, match=r"messages\[0\].role"):
        turns.prompt(replace(call(), messages=[{"role": "king", "content": "x"}]))


def test_answer_is_the_one_that_the_model_gives_alone(service: Service) -> None:
    events = asyncio.run(events_of(Turns(Bridge(service)), call(tokens=12)))
    end = events[-1]
    assert isinstance(end, TurnEnd)
    assert sum(isinstance(event, TurnEnd) for event in events) == 1
    text = "".join(event.text for event in events if isinstance(event, ContentDelta))
    assert text == end.completion.content == service.llm.chat(ASKED, max_tokens=12).text != ""
    assert end.reasoning_tokens == 0
    tokens = [token for event in events if isinstance(event, TokensMade) for token in event.tokens]
    assert len(tokens) == end.ended.usage.answer_tokens == 12


def test_several_answers_have_seeds_of_their_own(service: Service) -> None:
    async def several() -> list[str]:
        turns = await Turns(Bridge(service)).start_all(call(seed=5, temperature=1.0, tokens=8), 3)
        ends: dict[int, str] = {}
        async for place, event in merged(turns):
            if isinstance(event, TurnEnd):
                ends[place] = event.completion.content
        return [ends[place] for place in range(3)]

    texts = asyncio.run(several())
    alone = [service.llm.chat(ASKED, seed=5 + place, temperature=1.0, max_tokens=8).text for place in range(3)]
    assert texts == alone
    assert len(set(texts)) == 3


def test_request_is_bounded_by_the_context_and_the_largest_seed(service: Service) -> None:
    turns = Turns(Bridge(service))
    made = turns.request(Request(max_tokens=10**30, seed=MAX_SEED), 1)
    assert (made.max_tokens, made.seed) == (8192, 0)
    assert turns.request(Request(max_tokens=7), 3) == Request(max_tokens=7)


def test_reasoning_is_told_apart_and_its_tokens_counted(service: Service) -> None:
    text = f"It was night.{Special.END_THINK}The sea"
    events = asyncio.run(
        events_of(scripted(service, "It was", f" night.{Special.END_THINK}The", " sea"), call(thinking=True))
    )
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "It was night."
    assert "".join(event.text for event in events if isinstance(event, ContentDelta)) == "The sea"
    thought = [token for event in events if isinstance(event, TokensMade) and event.reasoning for token in event.tokens]
    answer = [
        token for event in events if isinstance(event, TokensMade) and not event.reasoning for token in event.tokens
    ]
    assert b"".join(token.text for token in thought) == f"It was night.{Special.END_THINK}".encode()
    assert b"".join(token.text for token in thought + answer) == text.encode()
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].reasoning_tokens == len(thought)


def test_reasoning_that_never_ends_is_all_of_the_answer(service: Service) -> None:
    events = asyncio.run(events_of(scripted(service, "It was", " night"), call(thinking=True)))
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].completion.reasoning == "It was night"
    assert not any(isinstance(event, TokensMade) and not event.reasoning for event in events)


def test_tool_call_arrives_as_events_wherever_it_is_cut(service: Service) -> None:
    for cut in range(1, len(CALL), 7):
        events = asyncio.run(events_of(scripted(service, "Yes.", CALL[:cut], CALL[cut:]), call(tools=TOOLS)))
        assert [event for event in events if isinstance(event, ToolCallStart)] == [ToolCallStart(0, "look")]
        assert "".join(e.arguments for e in events if isinstance(e, ToolCallDelta)) == '{"at": "the sea"}'
        assert [event for event in events if isinstance(event, ToolCallEnd)] == [ToolCallEnd(0, True)]
        assert isinstance(events[-1], TurnEnd)
        assert events[-1].completion.content == "Yes."


def test_progress_passes_through_and_failures_are_raised(service: Service) -> None:
    progress = Reading(id="a", done=256, total=600)
    turns = Turns(Bridge(Scripted(progress, ENDED, llm=service.llm)))
    assert asyncio.run(events_of(turns, call()))[0] == progress
    with pytest.raises(CancelledJob, match="the service ends"):
        asyncio.run(events_of(scripted(service, "a", last=Cancelled(id="a", why="the service ends")), call()))
    with pytest.raises(UsageError, match="no token"):
        asyncio.run(events_of(scripted(service, "a", last=Failed(id="a", error=UsageError("no token"))), call()))


def test_closed_turn_is_cancelled(service: Service) -> None:
    overheard = Overheard(service)

    async def close() -> None:
        (await Turns(Bridge(overheard)).start(call(tokens=5000))).close()

    asyncio.run(close())
    assert isinstance(overheard.next_end(), Cancelled)


def test_all_start_or_none(service: Service) -> None:
    class Full(Scripted):
        def submit(self, job: Job, tell: object) -> None:
            if len(self.jobs) == 2:
                raise BusyError("full")
            self.jobs.append(job)

    full = Full(llm=service.llm)
    with pytest.raises(BusyError, match="full"):
        asyncio.run(Turns(Bridge(full)).start_all(call(), 3))
    assert full.cancelled == [job.id for job in full.jobs]
    assert len(full.jobs) == 2


def test_too_long_a_prompt_is_refused_at_the_start(service: Service) -> None:
    long = replace(call(), messages=[{"role": "user", "content": "the sea " * 6000}])
    with pytest.raises(LimitError, match="context"):
        asyncio.run(Turns(Bridge(service)).start(long))


def test_error_of_one_turn_ends_and_closes_all_that_are_merged(service: Service) -> None:
    overheard = Overheard(service)

    async def run() -> None:
        good = await Turns(Bridge(overheard)).start(call(tokens=5000))
        bad = await scripted(service, "a", last=Failed(id="a", error=UsageError("broken"))).start(call())
        async for _ in merged([good, bad]):
            pass

    with pytest.raises(UsageError, match="broken"):
        asyncio.run(run())
    assert isinstance(overheard.next_end(), Cancelled)


def test_leaving_merged_turns_closes_all(service: Service) -> None:
    overheard = Overheard(service)

    async def run() -> None:
        turns = await Turns(Bridge(overheard)).start_all(call(tokens=5000), 2)
        async with aclosing(merged(turns)) as events:
            async for _ in events:
                break

    asyncio.run(run())
    assert isinstance(overheard.next_end(), Cancelled)
    assert isinstance(overheard.next_end(), Cancelled)
    service.check_integrity()
