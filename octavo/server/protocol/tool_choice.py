"""Whether and which tools an answer must call, as each protocol spells it.

Covers: `tool_choice` of the three protocols, the grammar that holds an answer to it. Does not cover: the grammar itself
(`octavo.engine.serving.calls`), leaving tools out of a prompt (`octavo.server.turn`). Loads no torch.

A forced answer is a block of calls and nothing else; with reasoning, the think block comes before it and is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.engine.serving.calls import calls_source
from octavo.engine.serving.job import Grammar, GrammarKind
from octavo.server.errors import FieldError
from octavo.server.protocol.fields import Fields

_WORDS = ("auto", "none", "required")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """mode: auto, none or required. names: of the tools that may be called then, None for all."""

    mode: str = "auto"
    names: tuple[str, ...] | None = None

    def grammar(self, tools: Sequence[Mapping[str, Any]] | None, *, parallel: bool) -> Grammar | None:
        """What a forced answer is held to, None where nothing is forced. `tools`: in the chat protocol's shape;
        `parallel`: whether there may be several calls. FieldError where no tool, or not the named one, is there."""
        if self.mode != "required":
            return None
        known = {tool["function"]["name"]: tool["function"] for tool in tools or ()}
        if not known:
            raise FieldError("tool_choice asks for a call; tools are missing", param="tool_choice")
        for name in self.names or ():
            if name not in known:
                raise FieldError(f"tool_choice names {name[:80]!r}; tools have no such function", param="tool_choice")
        meant = list(known) if self.names is None else dict.fromkeys(self.names)
        given = [{"name": name, "parameters": known[name].get("parameters")} for name in meant]
        return Grammar(kind=GrammarKind.CALLS, source=calls_source(given, parallel=parallel))


def chat_choice(given: str | Mapping[str, Any] | None) -> ToolChoice:
    """The chat protocol's: a word, a function by name, or `allowed_tools` with mode `required`. FieldError."""
    return _openai_choice(given, nested=True)


def responses_choice(given: Any) -> ToolChoice:
    """The same of the responses protocol, whose names and modes stand a level higher. FieldError."""
    return _openai_choice(given, nested=False)


def anthropic_choice(fields: Fields) -> tuple[ToolChoice, bool]:
    """The messages protocol's, and whether there may be several calls. `fields`: the body. FieldError."""
    choice = fields.object("tool_choice")
    if choice is None:
        return ToolChoice(), True
    kind = choice.choice("type", ("auto", "none", "any", "tool"))
    parallel = not choice.flag("disable_parallel_tool_use")
    if kind == "tool":
        return ToolChoice(mode="required", names=(choice.needed_text("name"),)), parallel
    return ToolChoice(mode="required" if kind == "any" else kind), parallel


def _openai_choice(given: Any, *, nested: bool) -> ToolChoice:
    if given is None:
        return ToolChoice()
    if isinstance(given, str) and given in _WORDS:
        return ToolChoice(mode=given)
    if not isinstance(given, Mapping):
        raise Fields({"tool_choice": given}).refusal("tool_choice", f"{', '.join(_WORDS)} or an object")
    choice = Fields(given, "tool_choice")
    kind = choice.choice("type", ("function", "allowed_tools"))
    inner = choice.needed_object(kind) if nested else choice
    if kind == "function":
        return ToolChoice(mode="required", names=(inner.needed_text("name"),))
    inner.choice("mode", ("required",))
    tools = inner.objects("tools")
    for tool in tools:
        tool.choice("type", ("function",))
    names = tuple((tool.needed_object("function") if nested else tool).needed_text("name") for tool in tools)
    if not names:
        raise inner.refusal("tools", "an array of at least one tool")
    return ToolChoice(mode="required", names=names)
