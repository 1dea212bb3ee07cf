"""Endings that keep more than one number as they go: stretches, small machines, objects of counts and groups.

Covers: drawing them. Does not cover: sums, extremes, tests (`endings`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Env, Rule, Scope
from octavo.data.programs.rules import rule
from octavo.data.programs.step import Ending
from octavo.data.programs.values import GROUP_FIELDS, TEXT_FIELDS

Fields = Mapping[str, str]


def _bracketed(test: Rule, x: str) -> str:
    """The condition, in brackets where it is one of two parts."""
    return f"({test.code(x)})" if "&&" in test.js else test.code(x)


def streak(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """The longest stretch of values that keep a rule."""
    test, x = rule(scope, kind, simple=True), scope.item(kind)
    best, run_name = scope.fresh("best", "longest", "record"), scope.fresh("run", "streak", "length")

    def run(vs: list[Any], env: Env) -> int:
        return max((len(list(group)) for key, group in groupby(vs, lambda v: test.run(v, env)) if key), default=0)

    lines = (f"let {best} = 0;", f"let {run_name} = 0;")
    return Ending(
        key=f"streak({test.key})",
        verb=f"return the length of the longest stretch of neighbours {test.many}",
        noun=f"the length of the longest stretch of neighbours among {{}} {test.many}",
        names=("streak", "longestRun"),
        run=run,
        js=lambda s: (
            f"{s}.reduce(([{best}, {run_name}], {x}) => {_bracketed(test, x)}"
            f" ? [Math.max({best}, {run_name} + 1), {run_name} + 1] : [{best}, 0], [0, 0])[0]"
        ),
        start=lines,
        step=lambda x: (
            f"{run_name} = {test.code(x)} ? {run_name} + 1 : 0;",
            f"if ({run_name} > {best}) {best} = {run_name};",
        ),
        result=best,
    )


def state(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """A small machine: a number that goes up or down with every value."""
    test, x, draw = rule(scope, kind, simple=True), scope.item(kind), scope.draw
    state = scope.fresh("score", "level", "state", "balance", "points")
    begin = draw.choice((0, 0, 1, 5, 10))
    moves: list[tuple[str, str, str, Callable[[int, Any], int]]] = []
    up, down = draw.randint(1, 5), draw.randint(1, 4)
    moves.append((f"add {up} to it", "{0} + " + str(up), "up", lambda s, v: s + up))
    moves.append((f"subtract {down} from it", "{0} - " + str(down), "down", lambda s, v: s - down))
    moves.append(("double it", "{0} * 2", "double", lambda s, v: s * 2))
    moves.append(("set it back to 0", "0", "zero", lambda s, v: 0))
    if kind == NUMBER:
        moves.append((f"add the {unit} to it", "{0} + {1}", "gain", lambda s, v: s + v))
        moves.append((f"subtract the {unit} from it", "{0} - {1}", "lose", lambda s, v: s - v))
    if kind == WORD:
        moves.append((f"add the length of the {unit} to it", "{0} + {1}.length", "gain", lambda s, v: s + len(v)))
    yes, no = draw.sample(moves, 2)
    least = draw.random() < 0.35
    floor = (lambda code: f"Math.max(0, {code})") if least else (lambda code: code)

    def run(vs: list[Any], env: Env) -> int:
        now = begin
        for v in vs:
            now = (yes if test.run(v, env) else no)[3](now, v)
            now = max(0, now) if least else now
        return now

    said = (
        f"if it {test.one}, {yes[0].replace(' it', ' the ' + state)}, otherwise {no[0].replace(' it', ' the ' + state)}"
    )
    limit = f"; the {state} never falls below 0" if least else ""

    def whole(x: str) -> str:
        return f"{_bracketed(test, x)} ? {yes[1].format(state, x)} : {no[1].format(state, x)}"

    return Ending(
        key=f"state({test.key},{yes[2]},{no[2]}{',floor' if least else ''})",
        verb=f"start a {state} at {begin}; for each one in turn, {said}{limit}; return the {state}",
        noun=f"the {state} at the end, which starts at {begin} and changes with each of {{}}: {said}{limit}",
        names=(state, "run", "play", "track"),
        js=lambda s: f"{s}.reduce(({state}, {x}) => {floor(whole(x)) if least else '(' + whole(x) + ')'}, {begin})",
        run=run,
        start=(f"let {state} = {begin};",),
        step=lambda x: (
            (f"{state} = {floor(whole(x))};",)
            if least
            else (
                f"if ({test.code(x)}) {state} = {yes[1].format(state, x)};",
                f"else {state} = {no[1].format(state, x)};",
            )
        ),
        result=state,
    )


def joined(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """One string."""
    out, sep = scope.fresh("text", "result", "joined", "out"), scope.draw.choice((", ", "-", " ", "", "/", "+", ""))
    if kind == CHARACTER:
        sep = scope.draw.choice(("", "", "", "-"))
    said = f'joined by "{sep}"' if sep else "joined without anything between"
    plain = (
        {"start": (f'let {out} = "";',), "step": lambda x: (f"{out} += {x};",), "result": out}
        if not sep and kind != NUMBER
        else {}
    )
    return Ending(
        key=f"join {'with' if sep else 'bare'}",
        verb=scope.draw.choice((f"return them {said} into one string", f"return one string: all of them {said}")),
        noun=f"one string of {{}} {said}" if kind == NUMBER else f"the string of {{}}, {said}",
        names=("join", "text", "string"),
        js=lambda s: f'{s}.join("{sep}")',
        run=lambda vs, env: sep.join(map(str, vs)),
        **plain,
    )


def frequencies(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """How often each value occurs."""
    out, x = scope.fresh("counts", "tally", "result"), scope.item(kind)
    return Ending(
        key="frequencies",
        verb="return an object that says how often each one occurs",
        names=("tally", "count", "frequencies"),
        noun="an object that says how often each occurs among {}",
        js=lambda s: f"{s}.reduce(({out}, {x}) => ({{ ...{out}, [{x}]: ({out}[{x}] ?? 0) + 1 }}), {{}})",
        run=lambda vs, env: dict(Counter(map(str, vs))),
        start=(f"const {out} = {{}};",),
        step=lambda x: (f"{out}[{x}] = ({out}[{x}] ?? 0) + 1;",),
        result=out,
    )


def grouped(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """Two lists, or an object of lists."""
    out, x = scope.fresh("groups", "result", "sorted"), scope.item(kind)
    if kind == NUMBER or scope.draw.random() < 0.4:
        test = rule(scope, kind, simple=True)
        return Ending(
            key=f"split({test.key})",
            verb=f"return a list of two lists: those {test.many}, then the others",
            names=("split", "partition", "divide"),
            noun=f"a list of two lists, those among {{}} {test.many} and then the others",
            named=True,
            js=lambda s: f"[{s}.filter(({x}) => {test.code(x)}), {s}.filter(({x}) => {test.refusal(x)})]",
            run=lambda vs, env: [[v for v in vs if test.run(v, env)], [v for v in vs if not test.run(v, env)]],
            start=(f"const {out} = [[], []];",),
            step=lambda x: (f"{out}[{test.code(x)} ? 0 : 1].push({x});",),
            result=out,
        )
    ways: tuple[tuple[str, str, str, Callable[[str], Any]], ...] = (
        ("length", "length", "{}.length", len),
        ("first", "first letter", "{}.slice(0, 1)", lambda v: v[:1]),
    )
    key, said, js, run = scope.draw.choice(ways)

    def grouped(vs: list[Any], env: Env) -> dict[str, list[Any]]:
        made: dict[str, list[Any]] = {}
        for v in vs:
            made.setdefault(str(run(v)), []).append(v)
        return made

    return Ending(
        key=f"group {key}",
        verb=f"return an object from each {said} to the list of those that have it",
        names=("group", "index", "bucket"),
        noun=f"an object that holds {{}} in lists by their {said}",
        js=lambda s: (
            f"{s}.reduce(({out}, {x}) => ({{ ...{out}, [{js.format(x)}]: "
            f"[...({out}[{js.format(x)}] ?? []), {x}] }}), {{}})"
        ),
        run=grouped,
        start=(f"const {out} = {{}};",),
        step=lambda x: (f"({out}[{js.format(x)}] ??= []).push({x});",),
        result=out,
    )


def longest(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """The longest or shortest word, or all lengths."""
    out, x, top = scope.fresh("best", "found", "result"), scope.item(kind), scope.draw.random() < 0.5
    said, op = ("longest", ">") if top else ("shortest", "<")
    pick = scope.draw.random()
    if pick < 0.3:
        return Ending(
            key="total length",
            verb="return the sum of their lengths",
            noun="the sum of the lengths of {}",
            names=("size", "letters", "total"),
            js=lambda s: f"{s}.reduce(({out}, {x}) => {out} + {x}.length, 0)",
            run=lambda vs, env: sum(map(len, vs)),
            start=(f"let {out} = 0;",),
            step=lambda x: (f"{out} += {x}.length;",),
            result=out,
        )
    return Ending(
        key=said,
        verb=f"return the {said}, the first of equals (null if there are none)",
        names=(said, "best", "find"),
        noun=f"the {said} of {{}}, the first of equals, or null if there are none",
        js=lambda s: (
            f"{s}.reduce(({out}, {x}) => ({out} === null || {x}.length {op} {out}.length ? {x} : {out}), null)"
        ),
        run=lambda vs, env: (max(vs, key=len) if top else min(vs, key=len)) if vs else None,
        start=(f"let {out} = null;",),
        step=lambda x: (f"if ({out} === null || {x}.length {op} {out}.length) {out} = {x};",),
        result=out,
    )


def different_or_last(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """How many different values, or the last."""
    if scope.draw.random() < 0.5:
        return Ending(
            key="different",
            verb="return how many different ones there are",
            noun="the number of different ones among {}",
            names=("countDistinct", "different", "variety"),
            js=lambda s: f"new Set({s}).size",
            run=lambda vs, env: len(set(vs)),
        )
    return Ending(
        key="last",
        verb="return the last one (null if there are none)",
        noun="the last of {}, or null if there are none",
        names=("last", "final", "end"),
        js=lambda s: f"{s}.at(-1) ?? null",
        run=lambda vs, env: vs[-1] if vs else None,
    )


def total_by(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """Sums or numbers of records by a field."""
    out, x = scope.fresh("totals", "sums", "result", "counts"), scope.item(kind)
    groups = [name for name, of in fields.items() if of in GROUP_FIELDS] or list(fields)[:1]
    by, many = scope.draw.choice(groups), scope.draw.random() < 0.4
    number = scope.draw.choice([name for name, of in fields.items() if of not in TEXT_FIELDS])
    item = "1" if many else f"{{0}}.{number}"
    said = "the number of them" if many else f"the sum of `{number}`"

    def run(vs: list[Any], env: Env) -> dict[str, int]:
        made: dict[str, int] = {}
        for v in vs:
            made[v[by]] = made.get(v[by], 0) + (1 if many else v[number])
        return made

    return Ending(
        key="count by" if many else "sum by",
        verb=f"return an object from each `{by}` to {said}",
        names=("totals", "sumBy", "per"),
        noun=f"an object from each `{by}` to {said} among {{}}",
        js=lambda s: (
            f"{s}.reduce(({out}, {x}) => ({{ ...{out}, [{x}.{by}]: ({out}[{x}.{by}] ?? 0) + {item.format(x)} }}), {{}})"
        ),
        run=run,
        start=(f"const {out} = {{}};",),
        step=lambda x: (f"{out}[{x}.{by}] = ({out}[{x}.{by}] ?? 0) + {item.format(x)};",),
        result=out,
    )


def best_record(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    """A field of the record with the most or least of another."""
    out, x, top = scope.fresh("best", "found", "result"), scope.item(kind), scope.draw.random() < 0.5
    number = scope.draw.choice([name for name, of in fields.items() if of not in TEXT_FIELDS])
    told = next(iter(fields))
    said, op = ("largest", ">") if top else ("smallest", "<")

    def run(vs: list[Any], env: Env) -> Any:
        return (max if top else min)(vs, key=lambda v: v[number])[told] if vs else None

    return Ending(
        key=f"best {said}",
        verb=f"return the `{told}` of the one with the {said} `{number}`, the first of equals (null if there are none)",
        noun=f"the `{told}` of the one with the {said} `{number}` among {{}}, the first of equals, or null",
        names=(said, "top", "pick"),
        js=lambda s: (
            f"{s}.reduce(({out}, {x}) => ({out} === null || {x}.{number} {op} {out}.{number} ? {x} : {out}), null)"
            f"?.{told} ?? null"
        ),
        run=run,
        start=(f"let {out} = null;",),
        step=lambda x: (f"if ({out} === null || {x}.{number} {op} {out}.{number}) {out} = {x};",),
        result=f"{out} === null ? null : {out}.{told}",
    )
