"""The grammar of forced calls: whatever is drawn under it is read back as calls whose arguments satisfy the schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from octavo.config.errors import UsageError
from octavo.engine.serving.calls import calls_lark, calls_source
from octavo.engine.serving.grammar import Grammars, Matcher
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.text.chat import encode_chat
from octavo.text.completion import Completion
from octavo.text.parser import parse_completion
from octavo.text.special import Special
from octavo.text.template import CALLS_OPEN, PARAMETER_CLOSE
from octavo.text.tokenizer import Tokenizer

NODE = {"type": "object", "properties": {"x": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
        "required": ["x"], "additionalProperties": False}  # fmt: skip
TOOLS: list[dict[str, Any]] = [
    {"name": "look", "parameters": {
        "type": "object",
        "properties": {
            "at": {"type": "string", "maxLength": 12},
            "n": {"type": "integer", "minimum": 3, "maximum": 99},
            "colour": {"enum": ["red", "blue", 3]},
            "when": {"type": "string", "format": "date"},
            "more": {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}]},
            "node": {"$ref": "#/$defs/node"},
        },
        "required": ["at", "node"],
        "$defs": {"node": NODE},
    }},
    {"name": "wait", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
    {"name": "mark_all", "parameters": {"type": "object", "additionalProperties": {"type": "boolean"}}},
    {"name": "mark", "parameters": None},
    {"name": "both", "parameters": {
        "properties": {"a": {"enum": ["x"]}, "b": {"type": "boolean"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }},
]  # fmt: skip


def start(grammars: Grammars, tools: list[dict[str, Any]], *, parallel: bool = True) -> Matcher:
    return grammars.start(Grammar(kind=GrammarKind.CALLS, source=calls_source(tools, parallel=parallel)))


def drawn(matcher: Matcher, tokenizer: Tokenizer, seed: int, most: int = 4000) -> str | None:
    """A random answer, which ends as soon as it may; None where it does not come to an end."""
    draw, text = np.random.default_rng(seed), b""
    for _ in range(most):
        bits = np.unpackbits(matcher.allowed(), count=tokenizer.vocab_size, bitorder="little")
        token = matcher.eos if bits[matcher.eos] else int(draw.choice(bits.nonzero()[0]))
        matcher.push(token)
        if token == matcher.eos:
            return text.decode("utf-8", "replace")
        text += tokenizer.token_bytes(token)
    return None


def read(text: str) -> Completion:
    made = parse_completion(text, thinking=False)
    assert made.problems == ()
    assert made.content == ""
    assert all(call.complete for call in made.tool_calls)
    return made


def test_whatever_is_drawn_is_calls_whose_arguments_satisfy_their_schema(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    schemas = {tool["name"]: tool["parameters"] or {} for tool in TOOLS}
    called: dict[str, int] = dict.fromkeys(schemas, 0)
    keys = set()
    for seed in range(60):
        text = drawn(start(grammars, TOOLS), tokenizer, seed)
        for call in () if text is None else read(text).tool_calls:
            arguments = json.loads(call.arguments)
            jsonschema_rs.validate(schemas[call.name], arguments)
            called[call.name] += 1
            keys |= set(arguments) if call.name == "look" else set()
    assert min(called.values()) >= 3, called
    assert keys == set(TOOLS[0]["parameters"]["properties"])


def test_calls_are_written_as_the_chat_format_writes_them(grammars: Grammars, tokenizer: Tokenizer) -> None:
    """So what an answer said is a prefix of the next turn's prompt, byte for byte."""
    given = {"at": "the </b> 2>&1 sea", "n": 12, "more": None, "node": {"x": True}}
    calls = [("wait", {}), ("look", given), ("mark", {"a": "b", "c": [1, {"d": 2}]})]
    tools = [TOOLS[1], {"name": "look", "parameters": {"properties": {name: {} for name in given}}}, TOOLS[3]]
    sent = [{"type": "function", "function": {"name": name, "arguments": json.dumps(one)}} for name, one in calls]
    asked = {"role": "user", "content": "x"}
    ids = encode_chat(tokenizer, [asked, {"role": "assistant", "content": "", "tool_calls": sent}])
    begun = len(encode_chat(tokenizer, [asked]))
    matcher = start(grammars, tools)
    for token in ids[begun:]:
        matcher.push(token)
    assert matcher.complete


def test_one_call_where_several_are_not_wanted(grammars: Grammars, tokenizer: Tokenizer) -> None:
    tools = [TOOLS[1]]
    several = [len(read(drawn(start(grammars, tools), tokenizer, seed) or "").tool_calls) for seed in range(20)]
    assert max(several) > 1
    for seed in range(20):
        assert len(read(drawn(start(grammars, tools, parallel=False), tokenizer, seed) or "").tool_calls) == 1


def test_the_end_of_a_value_is_never_spelled_by_plain_tokens(grammars: Grammars, tokenizer: Tokenizer) -> None:
    """Nor the beginning of calls: a string that holds the mark's characters could not be told from the mark."""
    tool = {"name": "say", "parameters": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}
    head = f'\n\n{CALLS_OPEN}\n<{Special.DSML}invoke name="say">\n<{Special.DSML}parameter name="a" string="true">'
    begun = [token for part in head.split(Special.DSML) for token in [grammars.mark, *tokenizer.encode(part)]][1:]
    one, other = start(grammars, [tool]), start(grammars, [tool])
    for token in begun:
        one.push(token)
        other.push(token)
    spelled = tokenizer.encode(PARAMETER_CLOSE)
    assert grammars.mark not in spelled
    last = next(n for n in range(len(spelled)) if Special.DSML in tokenizer.decode(spelled[: n + 1]))
    for token in spelled[:last]:
        one.push(token)
    with pytest.raises(UsageError, match="may not come here"):
        one.push(spelled[last])
    for token in [*tokenizer.encode("DSML </"), grammars.mark, *tokenizer.encode("parameter>")]:
        other.push(token)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([], "there is no tool"),
        ([{"name": "", "parameters": {}}], "the name of tool '' is empty"),
        ([{"name": 'a">b', "parameters": {}}], "the name of tool .* holds"),
        ([{"name": "a", "parameters": {"properties": {'b" string="true': {}}}}], "the parameter .* of tool 'a' holds"),
        ([{"name": "a", "parameters": {"properties": {"b": {"const": f"x{Special.DSML}"}}}}], "the tools spell"),
        ([{"name": "a", "parameters": {"not": {}}}], "not stands at the top of the parameters of tool 'a'"),
        ([{"name": "a", "parameters": {"properties": {"b": {"type": "string", "pattern": "("}}}}], "grammar"),
    ],
)
def test_tools_that_calls_cannot_be_held_to_are_refused(
    grammars: Grammars, tools: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        start(grammars, tools)


def test_the_grammar_names_the_control_token_and_no_text_of_it(tmp_path: Path) -> None:
    text = calls_lark(calls_source(TOOLS), 7, {})
    assert "<[7]>" in text
    assert Special.DSML not in text
