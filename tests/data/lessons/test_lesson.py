"""Lessons: tokens equal the product's own encoding of chat, the assistant's parts alone are taught."""

from __future__ import annotations

import json

import numpy as np
import pytest

from octavo.config.errors import TextError
from octavo.data.lessons.lesson import continuation, conversation, encoded, prompt_ids
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.special import Special
from tests.support.small_text import SmallText, small_text

TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Look.", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "a", "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"n": 3, "q": "a b"})}}
TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "The second?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": "7"},
    {"role": "assistant", "content": "It is 7."},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallText:
    return small_text(tmp_path_factory.mktemp("text"), paragraphs=60)


@pytest.mark.parametrize("document", ["", "The old lamp and a young fox."])
def test_tokens_are_those_of_the_product(world: SmallText, document: str) -> None:
    lesson = conversation("tool", TALK, tools=[TOOL], document=document)
    tokens, _ = encoded([lesson], world.encode, world.source.vocabulary.special)[0]
    asked = encode_chat(world.tokenizer, TALK, options=ChatOptions(bos=False), tools=[TOOL])
    expected = [world.tokenizer.special("BOS"), *world.tokenizer.encode(document), *asked]
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == expected


def test_only_what_the_assistant_writes_is_taught(world: SmallText) -> None:
    lesson = conversation("tool", TALK, tools=[TOOL])
    tokens, weight = encoded([lesson], world.encode, world.source.vocabulary.special)[0]
    taught = world.tokenizer.decode(tokens[weight == 1.0].tolist())
    assert set(weight.tolist()) == {0.0, 1.0}
    calls = '\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="look_up">\n'
    assert taught.startswith(calls)
    assert taught.endswith(f"</｜DSML｜tool_calls>{Special.EOS}It is 7.{Special.EOS}")
    assert "second" not in taught
    assert "tool_result" not in taught
    assert "short" not in taught


def test_reasoning_is_taught_where_the_think_block_is_open(world: SmallText) -> None:
    messages = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2.", "reasoning_content": "One more than 1."},
    ]
    lesson = conversation("dialogue", messages, thinking=True)
    taught = "".join(part.piece for part in lesson.parts if part.taught)
    assert taught == f"One more than 1.{Special.END_THINK}2.{Special.EOS}"
    assert lesson.prompt[-1] is Special.THINK
    closed = conversation("dialogue", messages)
    assert "".join(part.piece for part in closed.parts if part.taught) == f"2.{Special.EOS}"


def test_prompt_and_answer_are_the_last_turn(world: SmallText) -> None:
    lesson = conversation("tool", TALK, tools=[TOOL])
    special = world.source.vocabulary.special
    ids = prompt_ids(lesson, world.encode, special)
    tokens, weight = encoded([lesson], world.encode, special)[0]
    assert lesson.answer == "It is 7."
    assert tokens[: len(ids)].tolist() == ids
    assert weight[len(ids) :].all()
    assert weight[len(ids) - 1] == 0.0


def test_a_continuation_has_no_roles(world: SmallText) -> None:
    lesson = continuation("program", "function f(x) {\n", "  return x;\n}\n")
    tokens, weight = encoded([lesson], world.encode, world.source.vocabulary.special)[0]
    ids = [world.tokenizer.special("BOS"), *world.tokenizer.encode("function f(x) {\n")]
    assert tokens[: len(ids)].tolist() == ids
    assert weight.tolist() == [0.0] * len(ids) + [1.0] * (len(tokens) - len(ids))


def test_many_are_encoded_as_each_alone(world: SmallText) -> None:
    lessons = [
        conversation("tool", TALK, tools=[TOOL]),
        continuation("program", "a", "b"),
        conversation("x", TALK[1:2] + TALK[4:]),
    ]
    special = world.source.vocabulary.special
    together = encoded(lessons, world.encode, special)
    for lesson, (tokens, weight) in zip(lessons, together, strict=True):
        alone = encoded([lesson], world.encode, special)[0]
        assert tokens.tolist() == alone[0].tolist()
        assert weight.tolist() == alone[1].tolist()


def test_what_the_parser_reads_otherwise_is_refused() -> None:
    broken = [{"role": "user", "content": "a"}, {"role": "assistant", "content": f"b{Special.EOS}c"}]
    with pytest.raises(TextError, match="answer 0 of a dialogue lesson is not read back"):
        conversation("dialogue", broken)


def test_user_text_that_spells_marks_stays_text(world: SmallText) -> None:
    asked = f"{Special.ASSISTANT}{Special.END_THINK} x"
    lesson = conversation("dialogue", [{"role": "user", "content": asked}, {"role": "assistant", "content": "no"}])
    tokens, weight = encoded([lesson], world.encode, world.source.vocabulary.special)[0]
    assert world.tokenizer.decode(tokens[weight == 1.0].tolist()) == f"no{Special.EOS}"
    assert tokens.tolist().count(world.tokenizer.special("ASSISTANT")) == 1
