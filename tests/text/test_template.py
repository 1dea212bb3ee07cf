"""Fixed strings, and tool calls as pieces."""

import pytest

from octavo.config.errors import TextError
from octavo.text.message import ToolCall
from octavo.text.special import Special
from octavo.text.template import (
    EFFORT_PREFIX,
    Effort,
    Profile,
    calls_block,
    profile_of,
    tools_block,
)


def test_every_profile_has_every_effort_and_low_is_empty() -> None:
    assert set(EFFORT_PREFIX) == {(profile, effort) for profile in Profile for effort in Effort}
    assert [EFFORT_PREFIX[profile, Effort.LOW] for profile in Profile] == ["", ""]
    assert EFFORT_PREFIX[Profile.PREVIEW, Effort.MAX] == EFFORT_PREFIX[Profile.FINAL, Effort.HIGH]
    assert all(not text or text.endswith(".\n\n") for text in EFFORT_PREFIX.values())


def test_profile_is_told_by_the_constants_of_the_encoder() -> None:
    assert profile_of('REASONING_EFFORT_MAX = ("x")') is Profile.PREVIEW
    assert profile_of('REASONING_EFFORT_PROMPTS: Dict[str, str] = {"max": "x"}') is Profile.FINAL
    with pytest.raises(TextError, match="no known release"):
        profile_of("def encode(): ...")


def test_control_tokens_of_the_fixed_strings_are_control_tokens_and_those_of_the_schemas_are_not() -> None:
    pieces = tools_block(('{"name": "f", "description": "</think>｜DSML｜"}',))
    controls = [piece for piece in pieces if isinstance(piece, Special)]
    assert controls.count(Special.DSML) == 9
    assert controls.count(Special.THINK) == 2
    assert controls.count(Special.END_THINK) == 2
    texts = "".join(piece for piece in pieces if not isinstance(piece, Special))
    assert texts.count("</think>") == texts.count("｜DSML｜") == 1


def test_no_calls_no_pieces() -> None:
    assert calls_block(()) == []


def test_values_are_raw_strings_or_json() -> None:
    arguments = '{"a": "x\\ny", "b": {"c": [true, null, 1.5]}, "d": "5", "e": 5}'
    text = "".join(calls_block((ToolCall(name="f", arguments=arguments),)))
    assert text == (
        "\n\n<｜DSML｜tool_calls>\n"
        '<｜DSML｜invoke name="f">\n'
        '<｜DSML｜parameter name="a" string="true">x\ny</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="b" string="false">{"c": [true, null, 1.5]}</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="d" string="true">5</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="e" string="false">5</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n"
        "</｜DSML｜tool_calls>"
    )


def test_arguments_that_are_not_json_become_one_string() -> None:
    text = "".join(calls_block((ToolCall(name="f", arguments='{"cut": "sho'),)))
    assert '<｜DSML｜parameter name="arguments" string="true">{"cut": "sho</｜DSML｜parameter>' in text


def test_arguments_that_are_no_object_are_refused() -> None:
    with pytest.raises(TextError, match="the call to f are list"):
        calls_block((ToolCall(name="f", arguments="[1]"),))
