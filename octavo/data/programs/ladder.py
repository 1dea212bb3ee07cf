"""Programs of one value and two to four cases: a word, or a change of the value, by the first rule that it keeps.

Covers: drawing the source of one value and the ending that decides. Does not cover: choices inside a list (`changes`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from octavo.data.programs import values
from octavo.data.programs.changes import plain_change
from octavo.data.programs.piece import NUMBER, WORD, Env, Rule, Scope, Source
from octavo.data.programs.rules import rule
from octavo.data.programs.sequences import COUNTS
from octavo.data.programs.sources import TEXTS
from octavo.data.programs.step import Ending

Result = tuple[str, str, str, Callable[[Any, Env], Any]]
_WORDS = (
    ("low", "middle", "high", "top"),
    ("red", "green", "blue", "white"),
    ("A", "B", "C", "D"),
    ("no", "maybe", "yes", "sure"),
    ("small", "fair", "large", "huge"),
    ("cold", "mild", "warm", "hot"),
    ("none", "some", "many", "all"),
)


def one_value(scope: Scope) -> Source:
    """A number or a word, as a list of one."""
    if scope.draw.random() < 0.7:
        name = scope.argument(COUNTS, "a whole number", lambda draw, size: draw.randint(-9, 30))
        kind, unit = NUMBER, "number"
    else:
        name = scope.argument((*TEXTS, "word"), "a word", lambda draw, size: draw.choice(values.WORDS))
        kind, unit = WORD, "word"
    scope.items[kind] = name
    return Source(
        key=f"one {kind}", kind=kind, noun=f"`{name}`", unit=unit, js=name, run=lambda env: [env[name]], head=""
    )


def ladder(scope: Scope, kind: str) -> Ending:
    """What is returned by the first of one to three rules that holds, and what if none does."""
    rules: list[Rule] = []
    for _ in range(scope.draw.choices((1, 2, 3), (0.3, 0.5, 0.2))[0]):
        made = rule(scope, kind)
        if all(made.key != one.key for one in rules):
            rules.append(made)
    name, results = scope.items[kind], _results(scope, kind, len(rules) + 1)
    pairs = list(zip(rules, results, strict=False))
    verb, noun = _told(pairs, results[-1])
    lines = (*(f"if ({one.code(name)}) return {result[2]};" for one, result in pairs), f"return {results[-1][2]};")

    def run(vs: list[Any], env: Env) -> Any:
        for one, result in pairs:
            if one.run(vs[0], env):
                return result[3](vs[0], env)
        return results[-1][3](vs[0], env)

    keys = ",".join([*(f"{one.key}:{result[0]}" for one, result in pairs), results[-1][0]])
    return Ending(
        key=f"ladder({keys})",
        verb=verb,
        noun=noun,
        names=("classify", "rate", "decide", "choose"),
        js=lambda s: "".join(f"{one.code(s)} ? {result[2]} : " for one, result in pairs) + results[-1][2],
        run=run,
        lines=lines,
    )


def _told(pairs: list[tuple[Rule, Result]], last: Result) -> tuple[str, str]:
    """The cases as an order and as a thing that is returned."""
    (first, result), *rest = pairs
    if last[0] == "word":
        said = [f"{result[1]} if {{}} {first.one}", *(f"{other[1]} if not but it {one.one}" for one, other in rest)]
        text = f"{', '.join(said)}, and {last[1]} otherwise"
        return "return " + text.replace("{}", "it"), text
    said = [f"if it {first.one}, {result[1]}", *(f"if not but it {one.one}, {other[1]}" for one, other in rest)]
    text = f"{'; '.join(said)}; otherwise {last[1]}"
    return f"{text}; return the result", f"{{}} changed as follows: {text}"


def _results(scope: Scope, kind: str, count: int) -> list[Result]:
    """Key, words, code and meaning of so many results: words, or changes of the value."""
    name = scope.items[kind]
    if scope.draw.random() < 0.5:
        chosen = scope.draw.choice(_WORDS)[:count]
        return [("word", json.dumps(word), json.dumps(word), _always(word)) for word in chosen]
    made: dict[str, Result] = {}
    while len(made) < count - 1:
        one = plain_change(scope, kind)
        said = one.verb.format("it")
        made.setdefault(one.key, (one.key, said, one.code(name), one.run))
    return [*made.values(), ("same", "leave it as it is", name, lambda v, env: v)]


def _always(word: str) -> Callable[[Any, Env], Any]:
    return lambda v, env: word
