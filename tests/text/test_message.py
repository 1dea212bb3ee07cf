"""Checking and folding of messages."""

from typing import Any

import pytest

from octavo.config.errors import TextError
from octavo.text.message import Block, Role, Task, ToolCall, to_json, turns


def user(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def calling(*ids: str) -> dict[str, Any]:
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answer(call: str, text: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": text}


def test_tool_answers_join_one_user_turn_in_call_order() -> None:
    given = turns(
        [user("go"), calling("a", "b", "c"), answer("c", "3"), answer("a", "1"), user("and?"), answer("b", "2")]
    )
    assert [turn.role for turn in given] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert given[2].blocks == (
        Block(text="1", result_of="a"),
        Block(text="2", result_of="b"),
        Block(text="and?"),
        Block(text="3", result_of="c"),
    )


def test_order_is_that_of_the_last_calls() -> None:
    given = turns(
        [calling("a", "b"), answer("b", "2"), answer("a", "1"), calling("b", "a"), answer("a", "4"), answer("b", "3")]
    )
    assert [turn.text for turn in given if turn.role is Role.USER] == ["1\n\n2", "3\n\n4"]


def test_answers_without_ids_keep_their_order() -> None:
    assert turns([answer("", "x"), {"role": "tool", "content": "y"}])[0].text == "x\n\ny"


def test_unknown_call_id_is_refused() -> None:
    with pytest.raises(TextError, match="tool_call_id 'z' answers no call: the last calls are a, b"):
        turns([calling("a", "b"), answer("z", "1")])


def test_consecutive_user_messages_join_unless_a_task_stands_between() -> None:
    assert [turn.text for turn in turns([user("a"), user("b")])] == ["a\n\nb"]
    given = turns([user("a", task="query"), user("b")])
    assert [(turn.text, turn.task) for turn in given] == [("a", Task.QUERY), ("b", None)]


def test_task_of_a_user_message_after_tool_answers_is_kept() -> None:
    assert turns([calling("a"), answer("a", "1"), user("b", task="query")])[1].task is Task.QUERY


def test_text_parts_become_blocks() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert turns([user(parts)])[0].blocks == (Block(text="a"), Block(text="b"))
    assert turns([{"role": "system", "content": parts}])[0].text == "a\n\nb"
    assert turns([answer("", parts)])[0].blocks == (Block(text="a\n\nb", result_of=""),)
    assert turns([user([])])[0].text == ""


def test_arguments_may_be_text_or_an_object() -> None:
    function = {"name": "f", "arguments": {"é": [1, "5"]}}
    call = {"function": function, "id": "1"}
    assert turns([{"role": "assistant", "tool_calls": [call]}])[0].calls == (
        ToolCall(name="f", arguments='{"é": [1, "5"]}', id="1"),
    )


def test_tools_of_the_conversation_go_to_the_system_message_or_a_new_one() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with_system = turns([{"role": "system", "content": "s"}, user("a")], tools=tools)
    assert [(turn.text, turn.tools) for turn in with_system] == [("s", ('{"name": "f"}',)), ("a", ())]
    without = turns([user("a")], tools=tools, response_format={"type": "object"})
    assert (without[0].role, without[0].text, without[0].tools) == (Role.SYSTEM, "", ('{"name": "f"}',))
    assert without[0].response_format == '{"type": "object"}'
    assert turns([user("a")], tools=[])[0].role is Role.USER


def test_the_callers_messages_are_not_changed() -> None:
    messages = [{"role": "system", "content": "s"}, user("a")]
    turns(messages, response_format={"type": "object"})
    assert messages == [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]


def test_json_is_one_line_with_blanks_and_real_characters() -> None:
    assert to_json({"a": [1, "é"], "b": None}) == '{"a": [1, "é"], "b": null}'


FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages is empty"),
        (["hi"], r"messages\[0\] is str: expected an object"),
        ([user("a"), {"role": "robot", "content": "x"}], r"messages\[1\]\.role is 'robot'"),
        ([{"role": ["user"], "content": "x"}], r"messages\[0\]\.role is \['user'\]"),
        ([{"content": "x"}], r"messages\[0\]\.role is None"),
        ([user(None)], r"messages\[0\]\.content is NoneType"),
        ([user(5)], r"messages\[0\]\.content is int: expected a string"),
        ([user([{"type": "image_url"}])], r"messages\[0\]\.content\[0\]\.type is 'image_url': only text"),
        ([user([{"type": "text"}])], r"messages\[0\]\.content\[0\]\.text is NoneType"),
        ([{"role": "developer", "content": ""}], "a developer message needs text"),
        ([{"role": "latest_reminder", "content": ""}], "a latest_reminder message needs text"),
        ([user("a", task="dance")], r"messages\[0\]\.task is 'dance'"),
        ([user("a", tools=[FUNCTION])], r"messages\[0\]\.tools does not belong to a user message"),
        ([user("a", tool_calls=[FUNCTION])], r"messages\[0\]\.tool_calls does not belong to a user message"),
        ([{"role": "assistant", "reasoning_content": 5}], r"messages\[0\]\.reasoning_content is int"),
        ([{"role": "assistant", "tool_calls": [{}]}], r"messages\[0\]\.tool_calls\[0\]\.function is NoneType"),
        ([{"role": "system", "tools": [{"function": {}}]}], r"messages\[0\]\.tools\.function\.name is NoneType"),
        ([{"role": "system", "tools": [{"function": {"name": 'a"b'}}]}], "must be one line without quotes"),
        ([{"role": "tool", "content": None}], r"messages\[0\]\.content is NoneType"),
    ],
)
def test_faults_are_named_with_their_place(messages: list[Any], message: str) -> None:
    with pytest.raises(TextError, match=message) as caught:
        turns(messages)
    assert "\n" not in str(caught.value)
