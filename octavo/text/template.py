"""The fixed strings of the V4 chat format, and the texts of tool calls.

Covers: what a model was trained to see byte for byte: effort prefixes, the tools block, the response-format block,
tool answers and calls in DSML. Does not cover: which of them goes where (`chat`) or reading them back (`parser`).

Source of the strings: `encoding/encoding_dsv4.py` of the DeepSeek-V4 releases (MIT licence), preview of 2026-04-24
and final of 2026-07-31. They are a format, so they are kept to the letter; where both releases have a string it is
the same.
"""

import json
import re
from enum import StrEnum

from octavo.config.errors import TextError
from octavo.text.message import ToolCall, to_json
from octavo.text.special import Special

Piece = str | Special
"""A stretch of a prompt: a control token (`Special`), or text in which nothing is a control token (plain `str`)."""

CALLS_OPEN = f"<{Special.DSML}tool_calls>"
CALLS_CLOSE = f"</{Special.DSML}tool_calls>"
INVOKE_OPEN = f"<{Special.DSML}invoke"
INVOKE_CLOSE = f"</{Special.DSML}invoke>"
PARAMETER_OPEN = f"<{Special.DSML}parameter"
PARAMETER_CLOSE = f"</{Special.DSML}parameter>"


class Effort(StrEnum):
    """How long to think. LOW is the default of every profile and adds nothing."""

    LOW = "low"
    HIGH = "high"
    MAX = "max"


class Profile(StrEnum):
    """Which release's prefixes a checkpoint was trained with."""

    PREVIEW = "preview"
    FINAL = "final"


_ABSOLUTE_MAXIMUM = (
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, "
    "rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, considered "
    "alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n"
)
_BEYOND_MAXIMUM = (
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose "
    "the problem into its most fundamental components, trace every causal chain to its root, and resolve the "
    "underlying cause rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple angles and are certain "
    "that no assumption remains unchecked and no error remains undiscovered.\n\n"
)

EFFORT_PREFIX: dict[tuple[Profile, Effort], str] = {
    (Profile.PREVIEW, Effort.LOW): "",
    (Profile.PREVIEW, Effort.HIGH): "",
    (Profile.PREVIEW, Effort.MAX): _ABSOLUTE_MAXIMUM,
    (Profile.FINAL, Effort.LOW): "",
    (Profile.FINAL, Effort.HIGH): _ABSOLUTE_MAXIMUM,
    (Profile.FINAL, Effort.MAX): _BEYOND_MAXIMUM,
}

_TOOLS_HEAD = f"""## Tools

You have access to a set of tools to help answer the user's question. \
You can invoke tools by writing a "{CALLS_OPEN}" block like the following:

{CALLS_OPEN}
{INVOKE_OPEN} name="$TOOL_NAME">
{PARAMETER_OPEN} name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE{PARAMETER_CLOSE}
...
{INVOKE_CLOSE}
{INVOKE_OPEN} name="$TOOL_NAME2">
...
{INVOKE_CLOSE}
{CALLS_CLOSE}

String parameters should be specified as is and set `string="true"`. \
For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by {Special.THINK}), you MUST output your complete reasoning inside \
{Special.THINK}...{Special.END_THINK} BEFORE any tool calls or final response.

Otherwise, output directly after {Special.END_THINK} with tool calls or final response.

### Available Tool Schemas

"""
_TOOLS_TAIL = "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"
_RESPONSE_FORMAT = "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"
_CONTROL = re.compile("(" + "|".join(re.escape(token) for token in Special) + ")")


def profile_of(encoder_source: str) -> Profile:
    """The profile of a release, from the text of its `encoding_dsv4.py`, never executed.

    Raises TextError if it has the constants of neither release.
    """
    if "REASONING_EFFORT_PROMPTS" in encoder_source:
        return Profile.FINAL
    if "REASONING_EFFORT_MAX" in encoder_source:
        return Profile.PREVIEW
    raise TextError("the chat encoder is of no known release: it names no reasoning effort prefix")


def tools_block(schemas: tuple[str, ...]) -> list[Piece]:
    """The instructions for calling tools; `schemas` are function definitions as one-line JSON."""
    return [*_pieces(_TOOLS_HEAD), "\n".join(schemas) + _TOOLS_TAIL]


def response_format_block(schema: str) -> str:
    """The instruction to answer in the JSON schema `schema`."""
    return _RESPONSE_FORMAT + schema


def tool_result(text: str) -> str:
    """A tool's answer inside a user turn."""
    return f"<tool_result>{text}</tool_result>"


def calls_block(calls: tuple[ToolCall, ...]) -> list[Piece]:
    """Tool calls as the assistant writes them after its answer, the blank line before included; no calls, no pieces."""
    if not calls:
        return []
    pieces = _pieces(f"\n\n{CALLS_OPEN}")
    for call in calls:
        pieces += [*_pieces(f"\n{INVOKE_OPEN}"), f' name="{call.name}">\n', *_parameters(call)]
        pieces += _pieces(f"\n{INVOKE_CLOSE}")
    return [*pieces, *_pieces(f"\n{CALLS_CLOSE}")]


def _parameters(call: ToolCall) -> list[Piece]:
    """One line a parameter: a string raw, all else as JSON. What is no JSON becomes one string, `arguments`."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = {"arguments": call.arguments}
    if not isinstance(arguments, dict):
        kind = type(arguments).__name__
        raise TextError(f"the arguments of the call to {call.name} are {kind}: expected a JSON object")
    pieces: list[Piece] = []
    for index, (key, value) in enumerate(arguments.items()):
        is_string = isinstance(value, str)
        head = f' name="{key}" string="{"true" if is_string else "false"}">'
        pieces += _pieces(PARAMETER_OPEN if index == 0 else f"\n{PARAMETER_OPEN}")
        pieces += [head + (value if is_string else to_json(value)), *_pieces(PARAMETER_CLOSE)]
    return pieces


def _pieces(fixed: str) -> list[Piece]:
    """Split one of our own strings at the control tokens it spells. Never for text from outside."""
    return [Special(part) if index % 2 else part for index, part in enumerate(_CONTROL.split(fixed)) if part]
