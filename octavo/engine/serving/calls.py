"""The grammar of an answer that must call tools.

Covers: V4's call markup (`octavo.text.template`) as llguidance's Lark dialect, with arguments of the tools' JSON
schemas, as the chat format writes them: strings raw, all else as JSON. Does not cover: which tools may be called (the
protocols), trying and compiling the grammar (`grammar`), single values (`arguments`), reading the calls
(`octavo.text.parser`). Loads no torch.

An answer is one block of calls and nothing before it; further calls where `parallel`. Parameters come in the order of
`properties`, optional ones or not; others than those only where a schema names none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from octavo.config.errors import UsageError
from octavo.engine.serving.arguments import Values, object_of
from octavo.text.special import Special
from octavo.text.template import CALLS_CLOSE, CALLS_OPEN, INVOKE_CLOSE, INVOKE_OPEN, PARAMETER_CLOSE, PARAMETER_OPEN

_ANY_KEY = r"/[A-Za-z_][A-Za-z0-9_.-]{0,63}/"
_IN_HEADS = ('">', '" string="', "<", "\n")  # what a reader of heads could take for their end


def calls_source(tools: Sequence[Mapping[str, Any]], *, parallel: bool = True) -> str:
    """The tools as the source of a grammar of kind CALLS. `tools`: each with `name` and `parameters`, a JSON schema."""
    return json.dumps({"parallel": parallel, "tools": list(tools)})


def calls_lark(source: str, mark: int, options: Mapping[str, Any]) -> str:
    """The grammar in llguidance's dialect; `mark`: id of the control token in the marks; `options`: of JSON values.

    Raises UsageError that names the tool for a schema that calls cannot be held to.
    """
    asked = json.loads(source)
    if Special.DSML in json.dumps(asked, ensure_ascii=False):
        raise UsageError(f"the tools spell {Special.DSML}, which the marks of calls are made of")
    if not asked["tools"]:
        raise UsageError("there is no tool that could be called")
    rules = _Rules(mark, options)
    calls = [rules.call(tool["name"], tool.get("parameters")) for tool in asked["tools"]]
    again = " call*" if asked["parallel"] else ""
    head = f"{rules.fixed(chr(10) * 2 + CALLS_OPEN)} call{again} {rules.fixed(chr(10) + CALLS_CLOSE)}"
    return "\n".join([f"start: {head}", f"call: {' | '.join(calls)}", *rules.lines]) + "\n"


class _Rules:
    """The rules of one grammar as they are made."""

    def __init__(self, mark: int, options: Mapping[str, Any]) -> None:
        self._mark, self._options = f"<[{mark}]>", dict(options)
        self.lines: list[str] = []

    def fixed(self, text: str) -> str:
        """A text of ours, its control tokens as such."""
        parts = [json.dumps(part, ensure_ascii=False) for part in text.split(Special.DSML)]
        return f" {self._mark} ".join(parts)

    def add(self, body: str, *, terminal: bool = False) -> str:
        """The name of a new rule."""
        name = f"{'T' if terminal else 'r'}{len(self.lines)}"
        self.lines.append(f"{name}: {body}")
        return name

    def call(self, name: str, parameters: Any) -> str:
        """The rule of a call to one tool."""
        _check_head(name, f"the name of tool {name!r}")
        where = f"tool {name!r}"
        shapes = object_of({} if parameters is None else parameters, where)
        arguments = [self._arguments(shape.properties, shape.required, shape.others, shape.values) for shape in shapes]
        begin, end = self.fixed(f'\n{INVOKE_OPEN} name="{name}">'), self.fixed(f"\n{INVOKE_CLOSE}")
        # The chat format leaves an empty line in a call without arguments.
        none = self.fixed(f"\n\n{INVOKE_CLOSE}")
        bodies = [f"{made} {end}" for made, _ in arguments if made]
        bodies += [none] if any(empty for _, empty in arguments) else []
        return self.add(f"{begin} ({' | '.join(bodies)})")

    def _arguments(
        self, properties: Mapping[str, Any], required: frozenset[str], others: Any, values: Values
    ) -> tuple[str, bool]:
        """The rule of at least one parameter, empty where there can be none, and whether there may be none."""
        if not properties:
            if others is False:
                return "", not required
            some = self._parameter(None, others, values)
            return self.add(f"{some}+"), True
        names = list(properties)
        may, must = "", ""  # from here on: any number of parameters; at least one
        for name in reversed(names):
            one = self._parameter(name, properties[name], values)
            rest = f" {may}" if may else ""
            if name in required:
                must = may = self.add(f"{one}{rest}")
                continue
            must = self.add(f"{one}{rest} | {must}" if must else f"{one}{rest}")
            may = self.add(f"({one})?{rest}")
        return must, not required

    def _parameter(self, name: str | None, schema: Any, values: Values) -> str:
        """The rule of one parameter; a name that is None: any."""
        if name is not None:
            _check_head(name, f"the parameter {name!r} of {values.where}")
        raw, rest = values.split(schema)
        bodies = []
        close = self.fixed(PARAMETER_CLOSE)
        if raw:
            # A string's end is found by the control token behind `</`, which no terminal can hold.
            behind = close.removeprefix('"</" ')
            text = self.add(" | ".join(raw), terminal=True)
            bodies.append(f"{self._head(name, is_string=True)} {text} {behind}")
        if rest is not None:
            value = self.add(f"%json {json.dumps(rest | {'x-guidance': self._options})}")
            bodies.append(f"{self._head(name, is_string=False)} {value} {close}")
        return self.add(" | ".join(bodies))

    def _head(self, name: str | None, *, is_string: bool) -> str:
        open, word = f"\n{PARAMETER_OPEN}", "true" if is_string else "false"
        if name is not None:
            return self.fixed(f'{open} name="{name}" string="{word}">')
        key = self.add(_ANY_KEY, terminal=True)
        before, behind = self.fixed(f'{open} name="'), self.fixed(f'" string="{word}">')
        return f"{before} {key} {behind}"


def _check_head(text: str, what: str) -> None:
    found = next((mark for mark in _IN_HEADS if mark in text), None)
    if not text or found is not None:
        why = "is empty" if not text else f"holds {found!r}"
        raise UsageError(f"{what} {why}; a call to it could not be read back")
