"""Reading answers: round trip with the encoder, any split, truncation, broken format."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.text.chat import ChatOptions, encode_chat, render_text
from octavo.text.completion import (
    ContentDelta,
    Event,
    ParsedCall,
    Problem,
    ReasoningDelta,
    Section,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from octavo.text.detokenizer import Detokenizer
from octavo.text.parser import CompletionParser, parse_completion
from octavo.text.tokenizer import Tokenizer
from tests.support.tiny_tokenizer import tiny_tokenizer

EOS = "<｜end▁of▁sentence｜>"
OPEN, CLOSE = "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"
TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\n\n<>/&|\"'n｜")), max_size=20)
NAMES = st.text(st.sampled_from("abcXYZ_0123.-é"), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(NAMES, JSON, max_size=3)), max_size=3)


def marked(text: str) -> bool:
    return any(mark in text for mark in ("</think>", "｜DSML｜", EOS))


PLAIN = TEXT.filter(lambda text: not marked(text))


def answer_text(message: dict[str, Any], *, thinking: bool) -> str:
    """What a model that answers `message` writes, EOS included: the encoder's text after its generation prompt."""
    question = [{"role": "user", "content": "q"}]
    options = ChatOptions(thinking=thinking)
    whole = render_text([*question, {"role": "assistant", **message}], options=options)
    return whole.removeprefix(render_text(question, options=options))


def events_of(pieces: list[str], *, thinking: bool) -> list[Event]:
    parser = CompletionParser(thinking=thinking)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


def joined(events: list[Event]) -> list[Any]:
    """Events with neighbouring deltas of one kind put together: the part that may not depend on the splitting."""
    out: list[Any] = []
    for event in events:
        before = out[-1] if out else None
        if isinstance(event, ReasoningDelta | ContentDelta) and type(before) is type(event):
            out[-1] = type(event)(before.text + event.text)
        elif isinstance(event, ToolCallDelta) and isinstance(before, ToolCallDelta):
            out[-1] = ToolCallDelta(event.index, before.arguments + event.arguments)
        else:
            out.append(event)
    return out


@settings(max_examples=80)
@given(thinking=st.booleans(), reasoning=PLAIN, content=PLAIN, calls=CALLS)
def test_parse_undoes_encode(thinking: bool, reasoning: str, content: str, calls: list[tuple[str, dict]]) -> None:
    listed = [{"function": {"name": name, "arguments": json.dumps(arguments)}} for name, arguments in calls]
    message = {"content": content, "reasoning_content": reasoning, "tool_calls": listed}
    text = answer_text(message, thinking=thinking)
    found = parse_completion(text, thinking=thinking)
    assert found.reasoning == (reasoning if thinking else "")
    assert found.content == content
    assert [(call.name, json.loads(call.arguments), call.complete) for call in found.tool_calls] == [
        (name, arguments, True) for name, arguments in calls
    ]
    assert (found.finished, found.truncated, found.problems) == (True, None, ())
    again = found.message() | {"reasoning_content": reasoning}
    assert answer_text(again, thinking=thinking) == text


@settings(max_examples=60)
@given(data=st.data(), thinking=st.booleans(), content=PLAIN, calls=CALLS, cut=st.integers(min_value=0, max_value=400))
def test_splitting_and_stopping_anywhere(
    data: st.DataObject, thinking: bool, content: str, calls: list[tuple[str, dict]], cut: int
) -> None:
    listed = [{"function": {"name": name, "arguments": json.dumps(arguments)}} for name, arguments in calls]
    text = answer_text({"content": content, "reasoning_content": "why", "tool_calls": listed}, thinking=thinking)[:cut]
    borders = sorted(data.draw(st.lists(st.integers(min_value=0, max_value=len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]
    events = events_of(pieces, thinking=thinking)
    assert (
        joined(events)
        == joined(events_of(list(text), thinking=thinking))
        == joined(events_of([text], thinking=thinking))
    )
    shown = "".join(event.text for event in events if isinstance(event, ReasoningDelta | ContentDelta))
    assert "｜DSML｜" not in shown


SPELLED = (
    "I look.</think>Now.\n\n" + OPEN + '\n<｜DSML｜invoke name="tide">\n'
    '<｜DSML｜parameter name="port" string="true">5</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="hour" string="false">5</｜DSML｜parameter>\n'
    '</｜DSML｜invoke>\n<｜DSML｜invoke name="now">\n\n</｜DSML｜invoke>\n' + CLOSE + EOS
)


def test_string_five_and_number_five_stay_apart_as_events() -> None:
    assert joined(events_of(list(SPELLED), thinking=True)) == [
        ReasoningDelta("I look."),
        ContentDelta("Now."),
        ToolCallStart(0, "tide"),
        ToolCallDelta(0, '{"port": "5", "hour": 5}'),
        ToolCallEnd(0, True),
        ToolCallStart(1, "now"),
        ToolCallDelta(1, "{}"),
        ToolCallEnd(1, True),
    ]


@pytest.mark.parametrize("cut", range(len(SPELLED)))
def test_stopped_at_any_character_nothing_of_a_mark_shows(cut: int) -> None:
    found = parse_completion(SPELLED[:cut], thinking=True)
    think, now, opener, closer = (SPELLED.index(part) for part in ("</think>", "Now", OPEN, CLOSE))
    assert found.reasoning == SPELLED[: cut if cut < now else think]
    content = SPELLED[now : max(now, cut)]  # up to the opener, whose blank line and first sign could still be text
    assert found.content == (content if cut <= opener + 1 else "Now.")
    assert not found.finished
    assert found.problems == ()
    if cut < now:
        assert found.truncated is Section.REASONING
    elif opener + 2 < cut < closer + len(CLOSE):
        assert found.truncated is Section.TOOL_CALLS
    else:
        assert found.truncated is None
    for call, whole in zip(found.tool_calls, ('{"port": "5", "hour": 5}', "{}"), strict=False):
        assert call.arguments == whole if call.complete else whole.startswith(call.arguments.rstrip("</"))


def test_text_comes_out_as_soon_as_it_cannot_be_a_mark() -> None:
    parser = CompletionParser(thinking=True)
    assert parser.feed("a <") == [ReasoningDelta("a ")]
    assert parser.feed("b </thi") == [ReasoningDelta("<b ")]
    assert parser.feed("nk>") == []
    assert parser.feed("x\n") == [ContentDelta("x")]
    assert parser.feed("\n") == []
    assert parser.feed("y") == [ContentDelta("\n\ny")]
    assert parser.feed("\n\n") == []
    assert parser.close() == [ContentDelta("\n\n")]
    assert parser.close() == []


def test_string_arguments_stream() -> None:
    parser = CompletionParser(thinking=False)
    parser.feed("\n\n" + OPEN + '\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="a" string="true">')
    assert parser.feed('ls 2>&1 "x"\n') == [ToolCallDelta(0, 'ls 2>&1 \\"x\\"\\n')]
    assert parser.feed("</｜DSML") == []
    assert parser.feed("|no</｜DSML｜parameter>") == [ToolCallDelta(0, "</｜DSML|no"), ToolCallDelta(0, '"')]


@pytest.mark.parametrize("opening", [OPEN, "\n" + OPEN, "\n\n" + OPEN])
def test_calls_right_at_the_start_need_no_blank_line(opening: str) -> None:
    found = parse_completion(opening + '<｜DSML｜invoke name="f"></｜DSML｜invoke>' + CLOSE, thinking=False)
    assert (found.content, found.tool_calls) == ("", (ParsedCall(name="f", arguments="{}", complete=True),))


def test_opener_inside_a_line_is_text() -> None:
    text = f"write {OPEN} to call"
    assert parse_completion(text, thinking=False).content == text


def test_chat_mode_starts_with_content() -> None:
    found = parse_completion("Anna." + EOS, thinking=False)
    assert (found.reasoning, found.content, found.finished) == ("", "Anna.", True)


def test_reasoning_cut_by_eos_or_by_calls_is_told() -> None:
    found = parse_completion("hmm" + EOS, thinking=True)
    assert (found.reasoning, found.truncated, found.finished) == ("hmm", Section.REASONING, True)
    found = parse_completion("hmm\n\n" + OPEN + "\n" + CLOSE, thinking=True)
    assert (found.reasoning, found.content) == ("hmm", "")
    assert found.problems == ("tool calls began before </think>",)


def call_with(inner: str) -> str:
    return "\n\n" + OPEN + '\n<｜DSML｜invoke name="f">\n' + inner + "</｜DSML｜invoke>\n" + CLOSE + EOS


@pytest.mark.parametrize(
    ("text", "arguments", "problem"),
    [
        (
            call_with('<｜DSML｜parameter name="a" string="false">{oops</｜DSML｜parameter>\n'),
            '{"a": "{oops"}',
            "a parameter of f is not JSON and was taken as a string",
        ),
        (
            call_with('<｜DSML｜parameter name="a" string="false">NaN</｜DSML｜parameter>\n'),
            '{"a": "NaN"}',
            "a parameter of f is not JSON and was taken as a string",
        ),
        (
            call_with('<｜DSML｜parameter name="a">x</｜DSML｜parameter>\n'),
            "{}",
            "a call or parameter has no readable name",
        ),
        (call_with("some words"), "{}", "9 characters that belong to no part of the answer were dropped"),
        (
            call_with('<｜DSML｜parameter name="a" string="true">1</｜DSML｜parameter>\n' * 2),
            '{"a": "1", "a": "1"}',
            "parameter 'a' of f came twice; the last one counts",
        ),
        (
            call_with("").replace("</｜DSML｜invoke>\n", ""),
            "{}",
            "the call to f has no end mark",
        ),
        (
            call_with("") + "more",
            "{}",
            "4 characters that belong to no part of the answer were dropped",
        ),
    ],
)
def test_broken_format_is_told_and_never_content(text: str, arguments: str, problem: str) -> None:
    for pieces in ([text], list(text)):
        found = parse_completion(pieces, thinking=False)
        assert found.content == ""
        assert [call.arguments for call in found.tool_calls] == [arguments]
        assert problem in found.problems
    assert joined(events_of([text], thinking=False)) == joined(events_of(list(text), thinking=False))
    assert Problem(problem) in events_of([text], thinking=False)


INVOKE = '<｜DSML｜invoke name="f">\n'


@pytest.mark.parametrize(
    ("inner", "calls"),
    [
        ("\n", ()),
        ("\n" + INVOKE, (ParsedCall(name="f", arguments="", complete=False),)),
        (
            "\n" + INVOKE + '<｜DSML｜parameter name="a" string="true">x',
            (ParsedCall(name="f", arguments='{"a": "x', complete=False),),
        ),
        (
            "\n" + INVOKE + '<｜DSML｜parameter name="a" string="false">[1',
            (ParsedCall(name="f", arguments='{"a": [1', complete=False),),
        ),
    ],
)
def test_eos_inside_the_calls_ends_them_incomplete(inner: str, calls: tuple[ParsedCall, ...]) -> None:
    found = parse_completion("ok\n\n" + OPEN + inner + EOS, thinking=False)
    assert (found.content, found.tool_calls, found.finished) == ("ok", calls, True)
    assert found.truncated is Section.TOOL_CALLS


@pytest.mark.parametrize("kind", ["true", "false"])
def test_eos_spelled_in_a_value_is_part_of_it(kind: str) -> None:
    value = f"{EOS} x{EOS}" if kind == "true" else f'["{EOS}"]'
    text = call_with(f'<｜DSML｜parameter name="a" string="{kind}">{value}</｜DSML｜parameter>\n')
    for pieces in ([text], list(text)):
        found = parse_completion(pieces, thinking=False)
        assert json.loads(found.tool_calls[0].arguments) == {"a": value if kind == "true" else [EOS]}
        assert found.truncated is None


def test_call_without_a_name_is_dropped_and_the_next_one_read() -> None:
    text = "\n\n" + OPEN + "<｜DSML｜invoke>x</｜DSML｜invoke>" + '<｜DSML｜invoke name="g"></｜DSML｜invoke>' + CLOSE
    found = parse_completion(text, thinking=False)
    assert [call.name for call in found.tool_calls] == ["g"]
    assert found.problems[0] == "a call or parameter has no readable name"


def test_endless_name_is_given_up() -> None:
    text = "\n\n" + OPEN + '<｜DSML｜invoke name="' + "x" * 10_000
    for pieces in ([text], list(text)):
        found = parse_completion(pieces, thinking=False)
        assert (found.content, found.tool_calls, found.truncated) == ("", (), Section.TOOL_CALLS)
        assert "a call or parameter has no readable name" in found.problems


def test_big_numbers_and_deep_nesting_are_safe() -> None:
    for value, kept in (("9" * 5000, True), ("1.50e300", True), ("[" * 100_000, False)):
        parameter = f'<｜DSML｜parameter name="a" string="false">{value}</｜DSML｜parameter>\n'
        found = parse_completion(call_with(parameter), thinking=False)
        assert (found.tool_calls[0].arguments == f'{{"a": {value}}}') is kept


def test_from_ids_through_detokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path))
    function = {"name": "wörk", "arguments": '{"ort": "Zürich 🙂", "n": 5, "s": "5"}'}
    question = [{"role": "user", "content": "q"}]
    answer = {"role": "assistant", "content": "日本", "reasoning_content": "é", "tool_calls": [{"function": function}]}
    options = ChatOptions(thinking=True)
    ids = encode_chat(tokenizer, [*question, answer], options=options)
    ids = ids[len(encode_chat(tokenizer, question, options=options)) :]
    detokenizer = Detokenizer(tokenizer)
    found = parse_completion([detokenizer.push([token]) for token in ids], thinking=True)
    call = {"type": "function", "function": function}
    assert found.message() == {"role": "assistant", "content": "日本", "reasoning_content": "é", "tool_calls": [call]}
    assert found.finished
