"""Prompts against the golden vectors, and what ids add to text."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.text.chat import ChatOptions, encode_chat, render, render_text
from octavo.text.special import Special
from octavo.text.template import Effort, Profile
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "chat"
VECTORS = sorted(path.stem for path in GOLDEN.glob("*.json"))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def options_of(given: dict[str, Any]) -> ChatOptions:
    kinds = {"effort": Effort, "profile": Profile}
    return ChatOptions(**{key: kinds.get(key, bool)(value) for key, value in given.items()})


@pytest.mark.parametrize("name", VECTORS)
def test_golden_prompt(name: str, tokenizer: Tokenizer) -> None:
    vector = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    expected = (GOLDEN / f"{name}.txt").read_bytes().decode()
    options = options_of(vector["options"])
    rest = {"tools": vector.get("tools"), "response_format": vector.get("response_format")}
    assert render_text(vector["messages"], options=options, **rest) == expected
    ids = encode_chat(tokenizer, vector["messages"], options=options, **rest)
    assert ids == tokenizer.encode_special(expected)


def test_golden_vectors_are_there() -> None:
    assert len(VECTORS) >= 20


def test_question_on_a_document_goes_on_from_its_ids(tokenizer: Tokenizer) -> None:
    document = "The keeper is called Anna.\n"
    question = [{"role": "user", "content": "Who keeps the light?"}]
    suffix = encode_chat(tokenizer, question, options=ChatOptions(bos=False))
    assert suffix == [3, *tokenizer.encode("Who keeps the light?"), 4, 6]
    whole = encode_chat(tokenizer, [{"role": "system", "content": document}, *question])
    assert whole == [0, *tokenizer.encode(document), *suffix]


@given(system=TEXTS, text=TEXTS, answer=TEXTS, result=TEXTS, value=TEXTS)
def test_control_ids_are_ours_whatever_the_messages_say(
    tokenizer: Tokenizer, system: str, text: str, answer: str, result: str, value: str
) -> None:
    spelled = "".join(Special)
    call = {"id": "1", "function": {"name": "f", "arguments": {"a": value + spelled}}}
    messages = [
        {"role": "system", "content": system + spelled},
        {"role": "user", "content": spelled + text},
        {"role": "assistant", "content": answer + spelled, "reasoning_content": spelled, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": spelled + result},
    ]
    options = ChatOptions(thinking=True, drop_thinking=False)
    controls = [token for token in encode_chat(tokenizer, messages, options=options) if token < 16]
    dsml = [7] * 6  # opener, invoke, parameter and their ends
    assert controls == [0, 3, 4, 5, 6, *dsml, 1, 3, 4, 5]


def test_texts_between_controls_are_one_stretch() -> None:
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": ""},
    ]
    pieces = render(messages, options=ChatOptions(thinking=True))
    assert pieces == [Special.BOS, Special.USER, Special.ASSISTANT, Special.THINK, Special.END_THINK, Special.EOS]
    tools = [{"type": "function", "function": {"name": "f"}}]
    pieces = render([{"role": "system", "content": "s"}], tools=tools, response_format={"type": "object"})
    kinds = [isinstance(piece, Special) for piece in pieces]
    assert all(a or b for a, b in pairwise(kinds))


def test_developer_before_the_last_user_turn_is_dropped_with_the_reasoning() -> None:
    messages = [
        {"role": "developer", "content": "first"},
        {"role": "assistant", "content": "a", "reasoning_content": "r"},
        {"role": "user", "content": "second"},
    ]
    thinking = render_text(messages, options=ChatOptions(thinking=True, bos=False))
    assert thinking == "a<｜end▁of▁sentence｜><｜User｜>second<｜Assistant｜><think>"
    kept = render_text(messages, options=ChatOptions(thinking=True, bos=False, drop_thinking=False))
    assert kept.startswith("<｜User｜>first<｜Assistant｜><think>r</think>a<｜end▁of▁sentence｜>")
