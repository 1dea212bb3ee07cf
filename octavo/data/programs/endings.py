"""How programs end: a list to the value that is returned.

Covers: drawing an ending, its words, its code as an expression and as a loop, its meaning. Does not cover: the program
(`chain`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from octavo.data.programs import tallies
from octavo.data.programs.piece import CHARACTER, NUMBER, RECORD, WORD, Env, Rule, Scope
from octavo.data.programs.rules import record_rule, rule
from octavo.data.programs.step import Ending
from octavo.data.programs.tallies import Fields


def ending(scope: Scope, kind: str, fields: Mapping[str, str], unit: str) -> Ending:
    """An ending for values of `kind`, of which one is called `unit`."""
    if kind == RECORD:
        return scope.draw.choice((_counted, tallies.total_by, tallies.total_by, tallies.best_record, _tested))(
            scope, kind, fields, unit
        )
    makers = {NUMBER: _NUMBERS, WORD: _WORDS, CHARACTER: _CHARACTERS}[kind]
    return scope.draw.choices([one for one, _ in makers], [weight for _, weight in makers])[0](
        scope, kind, fields, unit
    )


def _listed(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    out = scope.fresh("result", "out", "kept", "answer", "made")
    verb = scope.draw.choice(("return the resulting list", "return the list", "return what you get, as a list"))
    return Ending(
        key="list",
        verb=verb,
        noun="a list of {}",
        names=("list", "collect", "pick", "make"),
        js=lambda s: s,
        run=lambda vs, env: vs,
        start=(f"const {out} = [];",),
        step=lambda x: (f"{out}.push({x});",),
        result=out,
    )


def _total(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    out, x = scope.fresh("sum", "total", "result", "acc"), scope.item(NUMBER)
    pick = scope.draw.random()
    if pick < 0.65:
        said = scope.draw.choice(("sum", "sum", "total"))
        return Ending(
            key="sum",
            verb=f"return their {said}",
            noun=f"the {said} of {{}}",
            names=("sum", "total", "add"),
            js=lambda s: f"{s}.reduce(({out}, {x}) => {out} + {x}, 0)",
            run=lambda vs, env: sum(vs),
            start=(f"let {out} = 0;",),
            step=lambda x: (f"{out} += {x};",),
            result=out,
        )
    if pick < 0.85:
        return Ending(
            key="product",
            verb="return their product (1 if there are none)",
            noun="the product of {} (1 if there are none)",
            names=("product", "multiply", "times"),
            js=lambda s: f"{s}.reduce(({out}, {x}) => {out} * {x}, 1)",
            run=lambda vs, env: prod(vs),
            start=(f"let {out} = 1;",),
            step=lambda x: (f"{out} *= {x};",),
            result=out,
        )
    sign = scope.fresh("sign", "factor", "turn")
    return Ending(
        key="alternating",
        verb="return the first minus the second plus the third and so on",
        names=("alternate", "swing"),
        noun="the alternating sum (first minus second plus third ...) of {}",
        js=lambda s: f"{s}.reduce(({out}, {x}, i) => (i % 2 === 0 ? {out} + {x} : {out} - {x}), 0)",
        run=lambda vs, env: sum(vs[::2]) - sum(vs[1::2]),
        start=(f"let {out} = 0;", f"let {sign} = 1;"),
        step=lambda x: (f"{out} += {sign} * {x};", f"{sign} = -{sign};"),
        result=out,
    )


def _extreme(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    out, top = scope.fresh("best", "found", "result", "top"), scope.draw.random() < 0.5
    said, name, op = ("largest", "max", ">") if top else ("smallest", "min", "<")
    pick = scope.draw.random()
    if pick < 0.6:
        return Ending(
            key=name,
            verb=f"return the {said} (null if there are none)",
            noun=f"the {said} of {{}}, or null if there are none",
            names=(said, name, "find"),
            js=lambda s: f"{s}.length === 0 ? null : Math.{name}(...{s})",
            named=True,
            run=lambda vs, env: (max(vs) if top else min(vs)) if vs else None,
            start=(f"let {out} = null;",),
            step=lambda x: (f"if ({out} === null || {x} {op} {out}) {out} = {x};",),
            result=out,
        )
    if pick < 0.75:
        return Ending(
            key=f"place of {name}",
            verb=f"return the index of the {said}, the first of equals (-1 if there are none)",
            noun=f"the index of the {said} among {{}}, the first of equals (-1 if there are none)",
            names=("place", "index", "position"),
            js=lambda s: f"{s}.indexOf(Math.{name}(...{s}))",
            named=True,
            run=lambda vs, env: vs.index(max(vs) if top else min(vs)) if vs else -1,
        )
    return Ending(
        key="spread",
        verb="return the difference between the largest and the smallest (0 if there are none)",
        noun="the difference between the largest and the smallest of {} (0 if there are none)",
        names=("spread", "span", "range"),
        js=lambda s: f"{s}.length === 0 ? 0 : Math.max(...{s}) - Math.min(...{s})",
        named=True,
        run=lambda vs, env: max(vs) - min(vs) if vs else 0,
    )


def _counted(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    out = scope.fresh("count", "total", "result", "found")
    verb = scope.draw.choice(
        ("return how many there are", "return how many are left", "count them and return the number")
    )
    return Ending(
        key="count",
        verb=verb,
        noun="the number of {}",
        names=("count", "howMany", "number"),
        js=lambda s: f"{s}.length",
        run=lambda vs, env: len(vs),
        start=(f"let {out} = 0;",),
        step=lambda x: (f"{out}++;",),
        result=out,
    )


def _tested(scope: Scope, kind: str, fields: Fields, unit: str) -> Ending:
    test = record_rule(scope, fields) if kind == RECORD else rule(scope, kind, simple=True)
    x = scope.item(kind)
    return scope.draw.choice((_any, _all, _how_many, _place, _first))(scope, test, x, unit)


def _any(scope: Scope, test: Rule, x: str, unit: str) -> Ending:
    return Ending(
        key=f"any({test.key})",
        verb=f"return true if at least one of them {test.one}, else false",
        noun=f"whether any of {{}} {test.one}",
        names=("has", "any", "some"),
        js=lambda s: f"{s}.some(({x}) => {test.code(x)})",
        run=lambda vs, env: any(test.run(v, env) for v in vs),
        step=lambda x: (f"if ({test.code(x)}) return true;",),
        result="false",
    )


def _all(scope: Scope, test: Rule, x: str, unit: str) -> Ending:
    return Ending(
        key=f"all({test.key})",
        verb=f"return true if every one of them {test.one}, else false",
        noun=f"whether every one of {{}} {test.one}",
        names=("all", "every", "only"),
        js=lambda s: f"{s}.every(({x}) => {test.code(x)})",
        run=lambda vs, env: all(test.run(v, env) for v in vs),
        step=lambda x: (f"if ({test.refusal(x)}) return false;",),
        result="true",
    )


def _how_many(scope: Scope, test: Rule, x: str, unit: str) -> Ending:
    out = scope.fresh("count", "total", "result", "found")
    return Ending(
        key=f"count({test.key})",
        verb=f"return how many of them {'have' if test.many.startswith('whose') else ''}{_plural(test)}",
        noun=f"the number of those among {{}} {test.many}",
        names=("count", "howMany"),
        js=lambda s: f"{s}.filter(({x}) => {test.code(x)}).length",
        run=lambda vs, env: sum(test.run(v, env) for v in vs),
        start=(f"let {out} = 0;",),
        step=lambda x: (f"if ({test.code(x)}) {out}++;",),
        result=out,
    )


def _plural(test: Rule) -> str:
    """The rule said of several, without its first word: "are even", "have more than 3 letters"."""
    if test.many.startswith("whose"):
        return f" a {test.one.removeprefix('has a ')}"
    return test.many.removeprefix("that ")


def _place(scope: Scope, test: Rule, x: str, unit: str) -> Ending:
    last = scope.draw.random() < 0.3
    which, call = ("last", "findLastIndex") if last else ("first", "findIndex")

    def run(vs: list[Any], env: Env) -> int:
        places = [i for i, v in enumerate(vs) if test.run(v, env)]
        return places[-1 if last else 0] if places else -1

    return Ending(
        key=f"{which} place({test.key})",
        verb=f"return the index of the {which} one {test.single} (-1 if there is none)",
        noun=f"the index of the {which} one among {{}} {test.single} (-1 if there is none)",
        names=("index", "place", "find"),
        js=lambda s: f"{s}.{call}(({x}) => {test.code(x)})",
        run=run,
    )


def _first(scope: Scope, test: Rule, x: str, unit: str) -> Ending:
    if test.key.startswith("field"):
        return _any(scope, test, x, unit)
    out, last = scope.fresh("found", "match", "result"), scope.draw.random() < 0.4
    which, call = ("last", "findLast") if last else ("first", "find")

    def run(vs: list[Any], env: Env) -> Any:
        good = [v for v in vs if test.run(v, env)]
        return good[-1 if last else 0] if good else None

    return Ending(
        key=f"{which}({test.key})",
        verb=f"return the {which} one {test.single} (null if there is none)",
        noun=f"the {which} one among {{}} {test.single}, or null",
        names=("find", which, "get"),
        js=lambda s: f"{s}.{call}(({x}) => {test.code(x)}) ?? null",
        run=run,
        start=(f"let {out} = null;",) if last else (),
        step=lambda x: (f"if ({test.code(x)}) {f'{out} = {x}' if last else f'return {x}'};",),
        result=out if last else "null",
    )


Maker = Callable[[Scope, str, Fields, str], Ending]
_NUMBERS: tuple[tuple[Maker, float], ...] = (
    (_listed, 0.24),
    (_total, 0.2),
    (_extreme, 0.14),
    (_counted, 0.1),
    (_tested, 0.12),
    (tallies.streak, 0.03),
    (tallies.state, 0.08),
    (tallies.joined, 0.04),
    (tallies.frequencies, 0.03),
    (tallies.grouped, 0.04),
    (tallies.different_or_last, 0.03),
)
_WORDS: tuple[tuple[Maker, float], ...] = (
    (_listed, 0.26),
    (_counted, 0.1),
    (_tested, 0.14),
    (tallies.streak, 0.02),
    (tallies.state, 0.05),
    (tallies.joined, 0.16),
    (tallies.frequencies, 0.06),
    (tallies.grouped, 0.07),
    (tallies.longest, 0.12),
    (tallies.different_or_last, 0.04),
)
_CHARACTERS: tuple[tuple[Maker, float], ...] = (
    (_listed, 0.06),
    (_counted, 0.16),
    (_tested, 0.14),
    (tallies.streak, 0.06),
    (tallies.state, 0.12),
    (tallies.joined, 0.3),
    (tallies.frequencies, 0.1),
    (tallies.different_or_last, 0.06),
)
