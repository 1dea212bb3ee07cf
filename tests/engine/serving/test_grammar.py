"""Constrained answers: what random choices among the allowed tokens make is always right; strangers' grammars harm
nothing."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llguidance import LLMatcher

from octavo.config.errors import UsageError
from octavo.engine.serving.grammar import Grammars, Matcher
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.engine.serving.trials import GrammarLimits
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_llm import tiny_llm

XS = Path(__file__).resolve().parents[3] / "weights" / "octavo-xs"
ANY = Grammar(kind=GrammarKind.JSON)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["glad", "sad", 3, None]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    PERSON,
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
    {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 2},
    {"type": "number", "minimum": -1, "maximum": 1},
    {"type": "string", "pattern": r"^[A-Z]{2}-\d{3}$"},
    {"anyOf": [{"type": "integer", "minimum": 5, "maximum": 7}, {"const": {"kind": "none"}}]},
    {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/point"}, "note": {"type": ["string", "null"], "maxLength": 5}},
        "required": ["at"],
        "additionalProperties": False,
        "$defs": {
            "point": {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                "required": ["x", "y"],
                "additionalProperties": False,
            }
        },
    },
]
REGEXES = [
    "yes|no",
    "[a-f0-9]{8}",
    r"([0-9]{1,3}\.){3}[0-9]{1,3}",
    "é{2}ü?[\u4e00-\u4e10]{1,3}",
    "a/b|\nc",
    "^(x+x+)+y{2}$",
]


def schema(content: Any) -> Grammar:
    return Grammar(kind=GrammarKind.SCHEMA, source=json.dumps(content))


def regex(source: str) -> Grammar:
    return Grammar(kind=GrammarKind.REGEX, source=source)


def lark(source: str) -> Grammar:
    return Grammar(kind=GrammarKind.LARK, source=source)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(XS)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Iterator[Grammars]:
    made = Grammars(tokenizer, eos=tokenizer.special("eos"))
    yield made
    made.close()


def ids_of(matcher: Matcher) -> list[int]:
    return np.unpackbits(matcher.allowed(), count=matcher.vocab_size, bitorder="little").nonzero()[0].tolist()


def wander(matcher: Matcher, tokenizer: Tokenizer, seed: int, most: int = 2000) -> str | None:
    """Text of random allowed tokens up to EOS; None if it did not come within `most`."""
    draw, made = random.Random(seed), []
    for _ in range(most):
        token = draw.choice(ids_of(matcher))
        matcher.push(token)
        if token == matcher.eos:
            assert matcher.ended
            assert matcher.complete
            return b"".join(map(tokenizer.token_bytes, made)).decode("utf-8")
        made.append(token)
    return None


def satisfies(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """The part of JSON Schema that SCHEMAS uses, written down a second time."""
    if "$ref" in rule:
        return satisfies(value, root["$defs"][rule["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in rule:
        return any(satisfies(value, one, root) for one in rule["anyOf"])
    if "const" in rule:
        return value == rule["const"]
    if "enum" in rule:
        return any(type(value) is type(one) and value == one for one in rule["enum"])
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    wanted = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if wanted == ["number"]:
        return type(value) in (int, float) and rule["minimum"] <= value <= rule["maximum"]
    if type(value) not in [kinds[one] for one in wanted]:
        return False
    if isinstance(value, dict):
        inside = all(name in rule["properties"] for name in value) and all(name in value for name in rule["required"])
        return inside and all(satisfies(value[name], rule["properties"][name], root) for name in value)
    if isinstance(value, list):
        fits = rule["minItems"] <= len(value) <= rule["maxItems"]
        return fits and all(satisfies(one, rule["items"], root) for one in value)
    if isinstance(value, str):
        return len(value) <= rule.get("maxLength", 99) and bool(re.search(rule.get("pattern", ""), value, re.ASCII))
    return type(value) is not int or rule.get("minimum", value) <= value <= rule.get("maximum", value)


@pytest.mark.parametrize("content", SCHEMAS, ids=range(len(SCHEMAS)))
def test_random_answers_satisfy_the_schema(grammars: Grammars, tokenizer: Tokenizer, content: dict[str, Any]) -> None:
    ended = 0
    for seed in range(12):
        text = wander(grammars.start(schema(content)), tokenizer, seed)
        if text is not None:
            assert satisfies(json.loads(text), content, content), text
            ended += 1
    assert ended >= 10


@pytest.mark.parametrize("source", REGEXES)
def test_random_answers_match_the_regex(grammars: Grammars, tokenizer: Tokenizer, source: str) -> None:
    texts = [wander(grammars.start(regex(source)), tokenizer, seed) for seed in range(8)]
    assert all(text is not None and re.fullmatch(source, text) for text in texts), texts


def test_random_answers_are_any_json_object(grammars: Grammars, tokenizer: Tokenizer) -> None:
    texts = [wander(grammars.start(ANY), tokenizer, seed, most=3000) for seed in range(12)]
    values = [json.loads(text) for text in texts if text is not None]
    assert len(values) >= 3
    assert all(isinstance(value, dict) for value in values)


def test_lark_answers(grammars: Grammars, tokenizer: Tokenizer) -> None:
    nested = lark('start: item\nitem: "(" item ")" | /[a-z]{1,3}/ // "<" in a comment and in "<"')
    for text, complete in (("abc", True), ("((ab))", True), ("((ab)", False), ("((", False)):
        matcher = grammars.start(nested)
        for token in tokenizer.encode(text):
            matcher.push(token)
        assert matcher.complete is complete, text
    for seed in range(20):
        answer = wander(grammars.start(nested), tokenizer, seed)
        assert answer
        assert re.fullmatch(r"\(*[a-z]{1,3}\)*", answer)
        assert answer.count("(") == answer.count(")")


def test_greedy_answers_over_random_logits_end(grammars: Grammars, tokenizer: Tokenizer) -> None:
    generator = torch.Generator().manual_seed(1)
    matcher = grammars.start(schema(PERSON))
    made: list[int] = []
    while not matcher.ended:
        logits = torch.randn(tokenizer.vocab_size + 50, generator=generator)
        left = matcher.mask(logits)
        token = int(left.argmax())
        assert left[token] == logits[token]
        matcher.push(token)
        made.append(token)
        assert len(made) < 500
    text = b"".join(map(tokenizer.token_bytes, made)).decode()
    assert satisfies(json.loads(text.removesuffix("<｜end▁of▁sentence｜>")), PERSON, PERSON)


def test_mask_leaves_exactly_the_allowed_and_no_id_beyond_the_vocabulary(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    matcher = grammars.start(regex("[ab]c?"))
    for wide in (tokenizer.vocab_size, tokenizer.vocab_size + 100):
        left = matcher.mask(torch.zeros(wide, dtype=torch.bfloat16))
        assert left.dtype == torch.bfloat16
        assert (left == 0).nonzero()[:, 0].tolist() == ids_of(matcher)
        assert bool((left[left != 0] == -torch.inf).all())
    assert {tokenizer.token_bytes(token) for token in ids_of(matcher)} <= {b"a", b"b", b"ac", b"bc"}
    with pytest.raises(UsageError, match=r"^logits have 7 entries; the vocabulary has 4096$"):
        matcher.mask(torch.zeros(7))


def test_eos_comes_only_where_the_grammar_is_complete(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.start(regex("ab?"))
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    assert (matcher.eos in ids_of(matcher), matcher.complete, matcher.ended) == (False, False, False)
    matcher.push(a)
    assert (ids_of(matcher), matcher.complete, matcher.ended) == (sorted([matcher.eos, b]), True, False)
    matcher.push(b)
    assert (ids_of(matcher), matcher.ended, matcher.forced()) == ([matcher.eos], True, [matcher.eos])
    matcher.push(matcher.eos)
    assert (ids_of(matcher), matcher.complete, matcher.ended, matcher.forced()) == ([], True, True, [])
    with pytest.raises(UsageError, match=r"^grammar: token 1 may not come here$"):
        matcher.push(matcher.eos)


def test_a_token_that_may_not_come_changes_nothing(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.start(regex("ab"))
    before = ids_of(matcher)
    for token in (tokenizer.encode("b")[0], matcher.eos, -1, tokenizer.vocab_size):
        with pytest.raises(UsageError, match=rf"^grammar: token {token} may not come here$"):
            matcher.push(token)
    assert ids_of(matcher) == before


def test_forced_tokens_are_what_must_come(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.start(regex("the name of the ship [ab]"))
    forced = matcher.forced()
    assert b"".join(map(tokenizer.token_bytes, forced)).startswith(b"the name of the")
    for token in forced:
        matcher.push(token)
    assert grammars.start(regex("[ab]{2}")).forced() == []


def test_control_tokens_never_come(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.start(regex(r"(?s:.)*"))
    controls = [token for token in range(16) if token != matcher.eos]
    for _ in range(3):
        assert not set(ids_of(matcher)) & set(controls)
        assert len(ids_of(matcher)) > 3500
        matcher.push(tokenizer.encode("a")[0])
    for source in ('start: "a" <think>', 'start: "a" <[5]>', 'start: /b/ <｜User｜> "<"'):
        with pytest.raises(UsageError, match="names tokens in <>"):
            grammars.check(lark(source))
    grammars.check(lark('start: "<think>" /<[a-z]/'))


def test_a_control_token_that_slipped_through_is_left_out(grammars: Grammars, tokenizer: Tokenizer) -> None:
    hidden = lark('start: "a" <[5]>')
    grammars._known[hidden] = grammars._compile(LLMatcher.grammar_from_lark(hidden.source))
    matcher = grammars.start(hidden)
    matcher.push(tokenizer.encode("a")[0])
    with pytest.raises(UsageError, match=r"^grammar: no token of the model's vocabulary can go on from here$"):
        matcher.allowed()


def test_spellings_of_control_tokens_are_made_of_plain_ones(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.start(regex("<think>"))
    matcher_tokens = tokenizer.encode("<think>")
    assert tokenizer.special("think") not in matcher_tokens
    for token in matcher_tokens:
        matcher.push(token)
    assert matcher.ended


def test_blanks_of_json_are_bounded(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.start(Grammar(kind=GrammarKind.SCHEMA, source='{"x-guidance":{"whitespace_pattern":"[ ]*"}}'))
    for token in tokenizer.encode("[ "):
        matcher.push(token)
    assert all(tokenizer.token_bytes(token).strip() for token in ids_of(matcher))


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar(kind=GrammarKind.JSON, source="{}"), r"\(json\): its source is '{}'; it must be empty"),
        (Grammar(kind=GrammarKind.SCHEMA), r"\(schema\): its source is empty"),
        (regex(""), r"\(regex\): its source is empty"),
        (regex("\ud800"), r"\(regex\): its source has a lone surrogate at character 0"),
        (regex("a" * 70_000), r"\(regex\): its source has 70,000 bytes; at most 65,536 are read"),
        (regex("é" * 40_000), r"\(regex\): its source has 80,000 bytes"),
        (regex("(" * 30_000 + "a" + ")" * 30_000), r"\(regex\): "),
        (regex("(?=a)b"), r"\(regex\): look-around, including look-ahead and look-behind, is not supported"),
        (regex(r"(a)\1"), r"\(regex\): backreferences are not supported"),
        (regex("(a"), r"\(regex\): unclosed group"),
        (regex(r"\w*" * 5_000), r"\(regex\): it takes "),
        (schema([1]), r"\(schema\): it is a JSON list; it must be an object"),
        (schema(True), r"\(schema\): it is a JSON bool; it must be an object"),
        (schema({"type": "strng"}), r"\(schema\): Invalid type: strng"),
        (schema({"$ref": "http://localhost:9/x"}), r"\(schema\): Resource 'http://localhost:9/x' is not present"),
        (schema({"$ref": "file:///etc/passwd"}), r"\(schema\): Resource 'file:///etc/passwd' is not present"),
        (schema({"$ref": "#"}), r"\(schema\): no text satisfies it"),
        (schema({"not": {}}), r'\(schema\): Unimplemented keys: \["not"\]'),
        (schema({"x-guidance": {"lenient": True}, "not": {}}), r'\(schema\): Unimplemented keys: \["not"\]'),
        (Grammar(kind=GrammarKind.SCHEMA, source='{"const": NaN}'), r"\(schema\): .*NaN is not a JSON number"),
        (Grammar(kind=GrammarKind.SCHEMA, source='{"const": 1e999}'), r"\(schema\): "),
        (Grammar(kind=GrammarKind.SCHEMA, source='{"const": ' + "1" * 5_000 + "}"), r"\(schema\): it is no JSON: "),
        (Grammar(kind=GrammarKind.SCHEMA, source="{"), r"\(schema\): it is no JSON: "),
        (Grammar(kind=GrammarKind.SCHEMA, source="{}} {"), r"\(schema\): it is no JSON: "),
        (Grammar(kind=GrammarKind.SCHEMA, source='{"a":' * 9_000), r"\(schema\): it is nested 9,000 deep; at most 32"),
        (schema({"allOf": [{"pattern": f".*a.{{{i}}}b.*"} for i in range(20)]}), "it takes more than 1 s to compile"),
        (lark("start: missing"), r"\(lark\): "),
        (lark("start: start"), r"\(lark\): no text satisfies it"),
        (lark("start: " + "(" * 30_000 + '"a"' + ")" * 30_000), "lark grammar too deeply nested"),
        (lark("start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(4_000)) + '\nr4000: "a"'), "nested too deep"),
        (lark("start: " + '"a"?' * 15_000), "it takes more than 1 s to compile|items"),
    ],
    ids=range(31),
)  # fmt: skip
def test_bad_grammars_are_refused_soon_and_in_one_line(grammars: Grammars, grammar: Grammar, message: str) -> None:
    grammars.check(ANY)  # the child is there
    start = time.perf_counter()
    with pytest.raises(UsageError, match=message) as caught:
        grammars.check(grammar)
    assert time.perf_counter() - start < 5  # 1 s of trial; the rest is for a machine that does other things
    assert str(caught.value).startswith("grammar (")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 320
    grammars.check(regex("still [a-z]+"))


@pytest.mark.parametrize(
    "grammar",
    [
        regex("(a+)+$"),
        regex("(a|a)*b" * 200),
        regex("(a?){50}a{50}"),
        regex(".*a.{1000}"),
        schema({"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}),
        schema({"enum": [f"value {i}" for i in range(3_000)]}),
        schema({"type": "array", "minItems": 10**9}),
        schema({"type": "string", "maxLength": 10**9}),
        Grammar(kind=GrammarKind.SCHEMA, source=json.dumps({"const": "[" * 5_000 + '"{\\'})),
    ],
    ids=range(9),
)
def test_odd_grammars_are_quick(grammars: Grammars, tokenizer: Tokenizer, grammar: Grammar) -> None:
    grammars.check(ANY)
    start = time.perf_counter()
    wander(grammars.start(grammar), tokenizer, 0, most=50)
    assert time.perf_counter() - start < 5


def test_known_grammars_are_bounded_and_found_again(tokenizer: Tokenizer) -> None:
    grammars = Grammars(tokenizer, eos=1, limits=GrammarLimits(cached=3))
    for number in range(10):
        grammars.check(regex(f"a{{{number + 1}}}"))
        with pytest.raises(UsageError):
            grammars.check(regex(f"(a{{{number + 1}}}"))
        assert len(grammars) <= 3
    grammars.close()  # the last ones need no child any more
    grammars.check(regex("a{10}"))
    with pytest.raises(UsageError, match="unclosed group"):
        grammars.check(regex("(a{10}"))
    assert grammars._trials.pid is None
    grammars.check(regex("a{1}"))
    assert grammars._trials.pid is not None
    grammars.close()


def test_a_grammar_that_became_too_costly_fails_its_answer_and_is_compiled_anew(tokenizer: Tokenizer) -> None:
    grammars = Grammars(tokenizer, eos=1, limits=GrammarLimits(lexer_states=400))
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    for seed in range(2):
        draw, matcher, made = random.Random(seed), grammars.start(regex("(a|b)*a(a|b){40}")), 0
        try:
            while made < 5_000:
                matcher.push(draw.choice((a, b)))
                made += 1
        except UsageError as error:
            assert str(error).startswith("grammar: lexer error: too many states")  # noqa: PT017
        assert 30 < made < 5_000
        with pytest.raises(UsageError, match="too many states"):
            matcher.allowed()
    grammars.close()


def test_threads_share_grammars(grammars: Grammars, tokenizer: Tokenizer) -> None:
    wrong: list[str | None] = []

    def work(first: int) -> None:
        for seed in range(first, first + 10):
            source = f"[a-c]{{2,9}}-{seed % 7}"
            text = wander(grammars.start(regex(source)), tokenizer, seed)
            if text is None or not re.fullmatch(source, text):
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert wrong == []


def test_a_model_answers_under_a_schema(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path)
    eos = llm.config.eos_token_id
    grammars = Grammars(llm.tokenizer, eos=eos)
    for content in (PERSON, SCHEMAS[1]):
        matcher, state, made = grammars.start(schema(content)), llm.new_state(), []
        row = llm.runner.read_last(np.array(llm.tokenizer.encode("Who is it?")), state).logits[0]
        while not matcher.ended:
            made.append(int(matcher.mask(row).argmax()))
            matcher.push(made[-1])
            row = llm.runner.read_last(np.array(made[-1:]), state).logits[0]
            assert len(made) < 400
        answer = llm.tokenizer.decode(token for token in made if token != eos)
        assert satisfies(json.loads(answer), content, content), answer
    grammars.close()


def test_eos_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match=r"^eos is 4096; it must be an id below 4096$"):
        Grammars(tokenizer, eos=4096)


def test_grammar_loads_no_torch() -> None:
    code = "import sys, octavo.engine.serving.grammar; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
