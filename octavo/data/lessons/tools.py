"""Calls of tools as lessons: definitions, calls, results and what is said of them, all computed.

Covers: arithmetic, days between dates, JavaScript that was run, made-up records, two calls at once, a tool that finds
nothing, tools that are not needed. Does not cover: the format (`octavo.text.template`), which `lesson` checks by
reading every call back.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from octavo.data.lessons import material
from octavo.data.lessons.lesson import Lesson, conversation
from octavo.data.lessons.material import as_json
from octavo.data.prose import TextSource
from octavo.data.tasks import lists

_KINDS = {"sum": 0.25, "days": 0.15, "code": 0.2, "record": 0.3, "idle": 0.1}
_FIELDS = {
    "price": "Price in pounds.",
    "weight": "Weight in grams.",
    "shelf": "Number of the shelf.",
    "stock": "How many are left.",
    "maker": "Who made it.",
    "colour": "Its colour.",
    "year": "Year of make.",
    "place": "Where it is kept.",
}
_VERBS = ("get", "find", "look_up", "read", "check", "fetch")
_STORES = ("record", "item", "stock", "catalogue", "inventory", "list", "card", "shop")
_SUMS = ("What is {e}?", "Please work out {e}.", "How much is {e}?", "Calculate {e}.", "{e} = ?")
_DAYS = ("How many days are there from {a} to {b}?", "Count the days between {a} and {b}.",
         "{a} to {b}: how many days?")  # fmt: skip
_RUNS = ("What does this give?\n\n{c}", "Run this and tell me the result.\n\n{c}", "Please execute:\n\n{c}")
_ASKS = ("What is the {f} of the {n}?", "Tell me the {f} of the {n}.", "I need the {f} of the {n}.",
         "Can you find out the {f} of the {n}?")  # fmt: skip
_DISTRACTORS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A tool, the question, the calls' arguments with their results, and what is said at the end."""

    tool: Mapping[str, Any]
    question: str
    calls: Sequence[tuple[Mapping[str, Any], str]]
    answer: str


class Tools:
    """Lessons with tools."""

    def __init__(self, source: TextSource, tasks: Sequence[material.Program], folder: Path) -> None:
        """`tasks` are those of the pack in `folder`. Raises ConfigError for a pack without small talk, and for no task
        whose result is asked for."""
        self._runs = [_call(one) for one in tasks if one.kind == "predict"]
        if not self._runs:
            raise material.ConfigError(f"{folder / material.TASKS_FILE} has no task of kind predict, which calls run")
        self._talks = material.dialogues(source, "chatterbot")

    def lesson(self, draw: Random) -> Lesson:
        """One use of a tool, among up to three others."""
        kind = draw.choices(list(_KINDS), list(_KINDS.values()))[0]
        if kind == "idle":
            return self._idle(draw)
        made = {"sum": _sum, "days": _days, "code": self._code, "record": _record}[kind](draw)
        return conversation("tool", _messages(made), tools=self._among(made.tool, kind, draw))

    def _code(self, draw: Random) -> _Use:
        """JavaScript whose result was made by running it."""
        source, call, result = draw.choice(self._runs)
        key = draw.choice(("code", "source", "script"))
        code = f"{source}\n{call}"
        tool = _tool(draw.choice(("run_javascript", "run_js", "execute")), "Run JavaScript and return the result.", {
            key: {"type": "string", "description": "The program."}})  # fmt: skip
        said = draw.choice(("It gives `{r}`.", "The result is `{r}`.", "`{c}` returns `{r}`.")).format(r=result, c=call)
        return _Use(
            tool=tool, question=draw.choice(_RUNS).format(c=code), calls=[({key: code}, result)], answer=said
        )  # fmt: skip

    def _idle(self, draw: Random) -> Lesson:
        """Small talk, though there are tools."""
        turns = draw.choice(self._talks)
        tools = self._among(_record(draw).tool, "record", draw)
        return conversation("tool", [{"role": role, "content": text} for role, text in turns], tools=tools)

    def _among(self, tool: Mapping[str, Any], kind: str, draw: Random) -> list[Mapping[str, Any]]:
        """A tool and up to three of other kinds, so that it alone can answer, in any order."""
        makers = {"sum": _sum, "days": _days, "code": self._code, "record": _record}
        others = draw.sample([make for name, make in makers.items() if name != kind], draw.randint(0, _DISTRACTORS))
        tools = [tool, *(make(draw).tool for make in others)]
        draw.shuffle(tools)
        return tools


def _call(task: material.Program) -> tuple[str, str, str]:
    """Source, call and result of a task that asks for a result."""
    source, _, call = task.prompt.rpartition("\n// ")
    return source, call.removesuffix(" => "), task.answer.strip()


def _tool(name: str, about: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


def _messages(made: _Use) -> list[dict[str, Any]]:
    """The question, all calls in one turn, their results, the answer."""
    name = made.tool["function"]["name"]
    calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": as_json(arguments)}}
        for i, (arguments, _) in enumerate(made.calls)
    ]
    results = [
        {"role": "tool", "tool_call_id": f"call_{i}", "content": result} for i, (_, result) in enumerate(made.calls)
    ]
    return [
        {"role": "user", "content": made.question}, {"role": "assistant", "content": "", "tool_calls": calls},
        *results, {"role": "assistant", "content": made.answer},
    ]  # fmt: skip


def _sum(draw: Random) -> _Use:
    """Whole numbers, two or three of them."""
    a, b, c = (draw.randint(2, draw.choice((20, 200, 5000))) for _ in range(3))
    forms = {
        f"{a} + {b}": a + b, f"{a} - {b}": a - b, f"{a} * {b}": a * b, f"{a} + {b} * {c}": a + b * c,
        f"({a} + {b}) * {c}": (a + b) * c, f"{a} * {b} - {c}": a * b - c,
    }  # fmt: skip
    expression, result = draw.choice(list(forms.items()))
    key = draw.choice(("expression", "formula", "input"))
    name = draw.choice(("calculator", "calculate", "compute", "evaluate"))
    tool = _tool(name, "Work out an arithmetic expression.", {
        key: {"type": "string", "description": "What to work out, such as 2 * (3 + 4)."}})  # fmt: skip
    said = draw.choice(("{e} is {r}.", "It is {r}.", "{e} = {r}")).format(e=expression, r=result)
    question = draw.choice(_SUMS).format(e=expression)
    return _Use(tool=tool, question=question, calls=[({key: expression}, str(result))], answer=said)


def _days(draw: Random) -> _Use:
    """Two dates of one century."""
    start = datetime.date(draw.randint(1950, 2040), 1, 1) + datetime.timedelta(days=draw.randrange(365))
    count = draw.choice((draw.randint(1, 60), draw.randint(60, 4000)))
    end = start + datetime.timedelta(days=count)
    first, last = draw.choice((("start", "end"), ("from", "to"), ("first", "last")))
    date = {"type": "string", "description": "A date as YYYY-MM-DD."}
    tool = _tool(draw.choice(("days_between", "count_days", "date_difference")), "Days from one date to another.", {
        first: date, last: date})  # fmt: skip
    question = draw.choice(_DAYS).format(a=start.isoformat(), b=end.isoformat())
    said = draw.choice(("{n} days.", "There are {n} days between them.", "It is {n} days.")).format(n=count)
    arguments = {first: start.isoformat(), last: end.isoformat()}
    return _Use(tool=tool, question=question, calls=[(arguments, str(count))], answer=said)


def _thing(draw: Random) -> str:
    return f"{draw.choice(lists.ADJECTIVES)} {draw.choice(lists.THINGS)}"


def _value(field: str, draw: Random) -> Any:
    """What a record says."""
    return {
        "price": f"{draw.randint(1, 400)}.{draw.randint(0, 99):02d}", "weight": draw.randint(5, 9000),
        "shelf": draw.randint(1, 300), "stock": draw.randint(1, 80), "maker": draw.choice(lists.GIVEN),
        "colour": draw.choice(("red", "green", "blue", "white", "black", "yellow", "grey", "brown")),
        "year": draw.randint(1700, 2030), "place": draw.choice(lists.PLACES),
    }[field]  # fmt: skip


def _record(draw: Random) -> _Use:
    """A field of one or two things, or of one that is not there."""
    field = draw.choice(list(_FIELDS))
    store, key = draw.choice(_STORES), draw.choice(("name", "item", "thing", "title"))
    exact = draw.random() < 0.3
    properties: dict[str, Any] = {
        key: {"type": "string", "description": "What is looked for."},
        "field": {"type": "string", "enum": list(_FIELDS), "description": " ".join(_FIELDS.values())},
    }
    if exact:
        properties["limit"] = {"type": "integer", "description": "Most results."}
    tool = _tool(f"{draw.choice(_VERBS)}_{store}", f"Look something up in the {store}.", properties)
    things = list(dict.fromkeys(_thing(draw) for _ in range(2 if draw.random() < 0.25 else 1)))
    missing = len(things) == 1 and draw.random() < 0.15
    calls, said = [], []
    for thing in things:
        value = _value(field, draw)
        arguments = {key: thing, "field": field} | ({"limit": 1} if exact else {})
        calls.append((arguments, as_json({"error": "not found"} if missing else {key: thing, field: value})))
        said.append(f"the {thing} is not there" if missing else f"the {field} of the {thing} is {value}")
    answer = " and ".join(said)
    question = draw.choice(_ASKS).format(f=field, n=" and of the ".join(things))
    return _Use(tool=tool, question=question, calls=calls, answer=answer[0].upper() + answer[1:] + ".")
