"""An answer as a message again."""

from octavo.text.completion import Completion, ParsedCall


def answer(*calls: ParsedCall) -> Completion:
    return Completion(reasoning="r", content="c", tool_calls=calls, finished=True, truncated=None, problems=())


def test_message_has_calls_only_if_there_are_whole_ones() -> None:
    plain = {"role": "assistant", "content": "c", "reasoning_content": "r"}
    cut = ParsedCall(name="g", arguments='{"a": "x', complete=False)
    assert answer().message() == plain
    assert answer(cut).message() == plain
    whole = ParsedCall(name="f", arguments='{"a": "5"}', complete=True)
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": "5"}'}}
    assert answer(whole, cut).message() == plain | {"tool_calls": [call]}
