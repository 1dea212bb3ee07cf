"""Steps from one list to another: kept, changed, cut, ordered, added up as one goes.

Covers: drawing a stage, its words, its code as an expression and as lines of a loop, its meaning. Does not cover: the
whole program (`chain`, `script`, `wording`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

from octavo.data.programs import orders
from octavo.data.programs.changes import change
from octavo.data.programs.piece import NUMBER, RECORD, WORD, Change, Rule, Scope, keyed
from octavo.data.programs.rules import record_rule, rule
from octavo.data.programs.step import Flow, Stage, fresh_list
from octavo.data.programs.values import TEXT_FIELDS


def stage(scope: Scope, kind: str, fields: Mapping[str, str]) -> Stage:
    """A stage for values of `kind`."""
    if kind == RECORD:
        pick = scope.draw.randrange(5)
        if pick == 4:
            return _taken(scope, kind)
        return (_kept_records, _pluck, _pluck, _sorted_records)[pick](scope, fields)
    makers = _NUMBERS if kind == NUMBER else _WORDS if kind == WORD else _ANY
    return scope.draw.choices([one for one, _ in makers], [weight for _, weight in makers])[0](scope, kind)


def kept(scope: Scope, kind: str, test: Rule) -> Stage:
    """Those values that keep `test`, or those that do not."""
    x, draw = scope.item(kind), scope.draw
    if draw.random() < 0.25:
        verb = draw.choice(("drop those {}", "remove the ones {}", "leave out all {}", "skip the ones {}"))
        refused = Rule(
            key=f"not {test.key}",
            one=test.one,
            many=test.many,
            js=test.neg,
            neg=test.js,
            run=lambda v, env: not test.run(v, env),
        )
        return Stage(
            key=f"drop({test.key})",
            verb=verb.format(test.many),
            noun=f"{{}} without those {test.many}",
            kind=kind,
            js=lambda s: f"{s}.filter(({x}) => {test.refusal(x)})",
            rule=refused,
            run=lambda vs, env: [v for v in vs if not test.run(v, env)],
        )
    verb = draw.choice(
        ("keep only those {}", "keep the ones {}", "pick those {}", "select the ones {}", "use only those {}")
    )
    return Stage(
        key=f"keep({test.key})",
        verb=verb.format(test.many),
        noun=f"{{}} {test.many}",
        kind=kind,
        rule=test,
        js=lambda s: f"{s}.filter(({x}) => {test.code(x)})",
        run=lambda vs, env: [v for v in vs if test.run(v, env)],
    )


def _kept(scope: Scope, kind: str) -> Stage:
    return kept(scope, kind, rule(scope, kind))


def _kept_records(scope: Scope, fields: Mapping[str, str]) -> Stage:
    return kept(scope, RECORD, record_rule(scope, fields))


def _pluck(scope: Scope, fields: Mapping[str, str]) -> Stage:
    name = scope.draw.choice(list(fields))
    kind = WORD if fields[name] in TEXT_FIELDS else NUMBER
    many = name if name.endswith(("s", "ck")) else name[:-1] + "ies" if name.endswith("y") else name + "s"
    verb = scope.draw.choice((f"take the `{name}` of each", f"look at their `{name}` only", f"collect each `{name}`"))
    made = Change(
        key="field", verb=verb, noun=f"the {many} of {{}}", js=f"@.{name}", run=lambda row, env: row[name], out=kind
    )
    return changed(scope, RECORD, made, verb)


def _changed(scope: Scope, kind: str) -> Stage:
    made = change(scope, kind)
    if made.verb.startswith("if "):
        verb = f"for each one, {made.verb.format('it')}"
    else:
        verb = made.verb.format(scope.draw.choice(("each", "each of them", "every one")))
    return changed(scope, kind, made, verb)


def changed(scope: Scope, kind: str, made: Change, verb: str) -> Stage:
    """Every value changed."""
    x = scope.item(kind)
    return Stage(
        key=f"map({made.key})",
        verb=verb,
        noun=made.noun,
        kind=made.out,
        change=made,
        js=lambda s: f"{s}.map(({x}) => {made.code(x)})",
        run=lambda vs, env: [made.run(v, env) for v in vs],
    )


def _taken(scope: Scope, kind: str) -> Stage:
    k = scope.number(2, 4, "count", "size", "k", "n")
    pick, draw = scope.draw.randrange(4), scope.draw
    if pick == 0:
        return Stage(
            key=keyed("first", k),
            verb=f"take the first {k.said}",
            noun=f"the first {k.said} of {{}}",
            kind=kind,
            js=lambda s: f"{s}.slice(0, {k.js})",
            run=lambda vs, env: vs[: k.of(env)],
        )
    if pick == 1:
        verb = draw.choice(("skip", "drop", "leave out"))
        return Stage(
            key=keyed("skip", k),
            verb=f"{verb} the first {k.said}",
            noun=f"{{}} after the first {k.said}",
            kind=kind,
            js=lambda s: f"{s}.slice({k.js})",
            run=lambda vs, env: vs[k.of(env) :],
        )
    if pick == 2:
        return Stage(
            key=keyed("last", k),
            verb=f"take the last {k.said}",
            noun=f"the last {k.said} of {{}}",
            kind=kind,
            js=lambda s: f"{s}.slice(-{k.js})",
            run=lambda vs, env: vs[-k.of(env) :],
        )
    return Stage(
        key="skip last",
        verb="drop the last one",
        noun="{} but the last one",
        kind=kind,
        js=lambda s: f"{s}.slice(0, -1)",
        run=lambda vs, env: vs[:-1],
    )


def _sorted_records(scope: Scope, fields: Mapping[str, str]) -> Stage:
    name = scope.draw.choice([name for name, kind in fields.items() if kind not in TEXT_FIELDS])
    down = scope.draw.random() < 0.5
    said = "largest" if down else "smallest"
    return Stage(
        key=f"sort field {'down' if down else 'up'}",
        verb=f"sort them by `{name}`, {said} first",
        noun=f"{{}}, sorted by `{name}` with the {said} first",
        kind=RECORD,
        js=lambda s: f"{fresh_list(s)}.sort((a, b) => {f'b.{name} - a.{name}' if down else f'a.{name} - b.{name}'})",
        run=lambda vs, env: sorted(vs, key=lambda v: -v[name] if down else v[name]),
    )


def _neighbours(scope: Scope, kind: str) -> Stage:
    x = scope.item(kind)
    key, verb, noun, item, run = scope.draw.choice(
        (
            (
                "steps",
                "take the difference of each to the one before it",
                "the differences of neighbours in {}",
                "{1} - {0}",
                lambda a, b: b - a,
            ),
            (
                "gaps",
                "take the distance (never negative) between each two neighbours",
                "the distances between neighbours in {}",
                "Math.abs({1} - {0})",
                lambda a, b: abs(b - a),
            ),
            (
                "pair sums",
                "add up each two neighbours",
                "the sums of neighbours in {}",
                "{0} + {1}",
                lambda a, b: a + b,
            ),
            (
                "pair tops",
                "take the larger one of each two neighbours",
                "the larger ones of neighbours in {}",
                "Math.max({0}, {1})",
                max,
            ),
        )
    )
    return Stage(
        key=key,
        verb=verb,
        noun=noun,
        kind=NUMBER,
        js=lambda s: f"{s}.map(({x}, i, all) => {item.format('all[i - 1]', x)}).slice(1)",
        run=lambda vs, env: [run(a, b) for a, b in pairwise(vs)],
        block=lambda s, out: [
            f"const {out} = [];",
            f"for (let i = 1; i < {s}.length; i++) {{",
            f"  {out}.push({item.format(f'{s}[i - 1]', f'{s}[i]')});",
            "}",
        ],
    )


def _running(scope: Scope, kind: str) -> Stage:
    x = scope.item(kind)
    key, said, start, item, run = scope.draw.choice(
        (
            ("sums", "running sums", "0", "{0} + {1}", lambda a, b: a + b),
            ("tops", "running maxima", "-Infinity", "Math.max({0}, {1})", max),
            ("lows", "running minima", "Infinity", "Math.min({0}, {1})", min),
        )
    )
    verb = {
        "sums": "replace each by the sum of all up to it",
        "tops": "replace each by the largest one up to it",
        "lows": "replace each by the smallest one up to it",
    }[key]
    state = scope.fresh("sum" if key == "sums" else "best", "so", "state", "acc")

    def flow(x: str, inner: Scope) -> Flow:
        return Flow(before=(f"let {state} = {start};",), lines=(f"{state} = {item.format(state, x)};",), x=state)

    return Stage(
        key=f"running {key}",
        verb=verb,
        noun=f"the {said} of {{}}",
        kind=NUMBER,
        flow=flow,
        js=lambda s: s,
        lines=lambda src, out, _: [
            f"let {state} = {start};",
            f"const {out} = {src}.map(({x}) => ({state} = {item.format(state, x)}));",
        ],
        run=lambda vs, env: list(accumulate(vs, run)),
    )


def _compared(scope: Scope, kind: str) -> Stage:
    x = scope.item(kind)
    if scope.draw.random() < 0.5:
        return Stage(
            key="rising",
            verb="keep those that are larger than the one before (and the first)",
            kind=kind,
            noun="the first of {} and those that are larger than the one before",
            js=lambda s: f"{s}.filter(({x}, i, all) => i === 0 || {x} > all[i - 1])",
            run=lambda vs, env: [v for i, v in enumerate(vs) if i == 0 or v > vs[i - 1]],
        )
    total = scope.fresh("total", "sum", "whole")
    return Stage(
        key="above mean",
        verb="keep those above their average",
        noun="those above the average among {}",
        kind=kind,
        js=lambda s: f"{s}.filter(({x}, _, all) => {x} * all.length > all.reduce(({total}, y) => {total} + y, 0))",
        run=lambda vs, env: [v for v in vs if v * len(vs) > sum(vs)],
    )


Maker = Callable[[Scope, str], Stage]
_ANY: tuple[tuple[Maker, float], ...] = (
    (_kept, 0.32),
    (_changed, 0.28),
    (_taken, 0.06),
    (orders.every, 0.05),
    (orders.turned, 0.06),
    (orders.ordered, 0.06),
    (orders.distinct, 0.06),
    (orders.calmed, 0.04),
    (orders.until, 0.05),
    (orders.parted, 0.03),
    (orders.numbered, 0.04),
)
_WORDS = _ANY
_NUMBERS: tuple[tuple[Maker, float], ...] = (*_ANY, (_neighbours, 0.08), (_running, 0.07), (_compared, 0.04))
