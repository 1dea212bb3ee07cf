"""One turn: its prompt, what is kept of a state that holds earlier turns, events."""

from __future__ import annotations

from contextlib import closing

import pytest

from octavo.config.errors import LimitError, TextError
from octavo.engine.chat import answer_chat
from octavo.engine.llm import LLM
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.completion import ContentDelta, Event, ReasoningDelta
from tests.support.tiny_llm import tiny_llm

TURNS = [{"role": "user", "content": "Who wrote the page?"}]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"), max_position_embeddings=512)


def test_state_holds_the_prompt_as_the_format_writes_it(llm: LLM) -> None:
    with closing(llm.new_state()) as state:
        reply = answer_chat(llm, TURNS, state=state, max_tokens=3)
        prompt = encode_chat(llm.tokenizer, TURNS)
        assert state.tokens[: len(prompt)].tolist() == prompt
        assert prompt[0] == llm.tokenizer.special("BOS")
        assert reply.usage.question_tokens == len(prompt)
        assert reply.usage.reused_tokens == 0


def test_thinking_leaves_the_block_open_and_reads_reasoning(llm: LLM) -> None:
    events: list[Event] = []
    with closing(llm.new_state()) as state:
        reply = answer_chat(llm, TURNS, state=state, thinking=True, max_tokens=4, on_event=events.append)
        prompt = encode_chat(llm.tokenizer, TURNS, options=ChatOptions(thinking=True))
        assert state.tokens[: len(prompt)].tolist() == prompt
    said = "".join(event.text for event in events if isinstance(event, ReasoningDelta | ContentDelta))
    assert said == reply.completion.reasoning + reply.completion.content != ""


def test_earlier_turns_are_reused_as_far_as_they_agree(llm: LLM) -> None:
    with closing(llm.new_state()) as state:
        answer_chat(llm, TURNS, state=state, base=0, max_tokens=3)
        other = [{"role": "user", "content": "Who wrote the book?"}]
        first = encode_chat(llm.tokenizer, TURNS)
        second = encode_chat(llm.tokenizer, other)
        agree = next(n for n in range(len(first)) if first[n] != second[n])
        reply = answer_chat(llm, other, state=state, base=0, max_tokens=3)
        assert reply.usage.reused_tokens == agree
        assert reply.usage.question_tokens == len(second) - agree
        assert reply.text == llm.chat(other, max_tokens=3).text
        state.check_integrity()


def test_same_prompt_again_reads_one_token(llm: LLM) -> None:
    with closing(llm.new_state()) as state:
        first = answer_chat(llm, TURNS, state=state, base=0, max_tokens=3)
        again = answer_chat(llm, TURNS, state=state, base=0, max_tokens=3)
        assert again.usage.question_tokens == 1
        assert again.text == first.text


def test_too_long_a_turn_leaves_the_state(llm: LLM) -> None:
    with closing(llm.new_state()) as state:
        answer_chat(llm, TURNS, state=state, base=0, max_tokens=3)
        before = state.tokens.tolist()
        with pytest.raises(LimitError, match="the context of this model ends at 512"):
            answer_chat(llm, [{"role": "user", "content": "long " * 600}], state=state, base=0)
        assert state.tokens.tolist() == before


def test_bad_messages_are_named(llm: LLM) -> None:
    with pytest.raises(TextError, match=r"messages\[0\]\.role"):
        llm.chat([{"role": "nobody", "content": "x"}])
