"""Stages that look at places: which values stay by index, in what order, which repeat.

Covers: drawing them. Does not cover: stages by value alone, neighbours (`stages`).
"""

from __future__ import annotations

from itertools import groupby, takewhile

from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Scope
from octavo.data.programs.rules import rule
from octavo.data.programs.step import Flow, Stage, fresh_list


def every(scope: Scope, kind: str) -> Stage:
    """Every second or third value, or those at odd indexes."""
    k = scope.draw.randint(2, 3)
    if scope.draw.random() < 0.5:
        said = {2: "second", 3: "third"}[k]
        return Stage(
            key=f"every {k}",
            verb=f"keep every {said} one, beginning with the first",
            kind=kind,
            noun=f"every {said} one (beginning with the first) of {{}}",
            run=lambda vs, env: vs[::k],
            js=lambda s: f"{s}.filter((_, i) => i % {k} === 0)",
            block=lambda s, out: [
                f"const {out} = [];",
                f"for (let i = 0; i < {s}.length; i += {k}) {out}.push({s}[i]);",
            ],
        )
    return Stage(
        key="odd places",
        verb="keep those at odd indexes",
        noun="{} at odd indexes",
        kind=kind,
        run=lambda vs, env: vs[1::2],
        js=lambda s: f"{s}.filter((_, i) => i % 2 === 1)",
        block=lambda s, out: [f"const {out} = [];", f"for (let i = 1; i < {s}.length; i += 2) {out}.push({s}[i]);"],
    )


def turned(scope: Scope, kind: str) -> Stage:
    """The list from its end."""
    verb = scope.draw.choice(("reverse their order", "turn the order around", "reverse the list"))
    return Stage(
        key="reverse",
        verb=verb,
        noun="{} in reverse order",
        kind=kind,
        js=lambda s: f"{fresh_list(s)}.reverse()",
        run=lambda vs, env: vs[::-1],
        block=lambda s, out: [f"const {out} = [];", f"for (let i = {s}.length - 1; i >= 0; i--) {out}.push({s}[i]);"],
    )


def ordered(scope: Scope, kind: str) -> Stage:
    """The list sorted."""
    down = scope.draw.random() < 0.5
    if kind == NUMBER:
        verb = scope.draw.choice(
            ("sort them from large to small", "sort them in falling order", "order them by size, largest first")
            if down
            else ("sort them from small to large", "sort them in rising order", "order them by size, smallest first")
        )
        return Stage(
            key=f"sort {'down' if down else 'up'}",
            verb=verb,
            noun=f"{{}}, sorted from {'large to small' if down else 'small to large'}",
            kind=kind,
            js=lambda s: f"{fresh_list(s)}.sort((a, b) => {'b - a' if down else 'a - b'})",
            run=lambda vs, env: sorted(vs, reverse=down),
        )
    if kind == WORD and scope.draw.random() < 0.4:
        said = "longest" if down else "shortest"
        return Stage(
            key=f"sort length {'down' if down else 'up'}",
            verb=f"sort them by length, {said} first (of equal length in the order given)",
            noun=f"{{}}, sorted by length with the {said} first",
            kind=kind,
            js=lambda s: f"{fresh_list(s)}.sort((a, b) => {'b.length - a.length' if down else 'a.length - b.length'})",
            run=lambda vs, env: sorted(vs, key=lambda v: -len(v) if down else len(v)),
        )
    said = "small letters before capital ones" if down else "capital letters before small ones"
    order = "order of character codes" if kind == CHARACTER else f"alphabetical order ({said})"
    order = f"reverse {order}" if down else order
    return Stage(
        key=f"sort {'down' if down else 'up'}",
        verb=f"sort them in {order}",
        noun=f"{{}}, sorted in {order}",
        kind=kind,
        js=lambda s: f"{fresh_list(s)}.sort().reverse()" if down else f"{fresh_list(s)}.sort()",
        run=lambda vs, env: sorted(vs, reverse=down),
    )


def distinct(scope: Scope, kind: str) -> Stage:
    """Each value once."""
    verb = scope.draw.choice(
        ("remove repeats, keeping the first of each", "keep each different one once", "drop duplicates")
    )

    def flow(x: str, inner: Scope) -> Flow:
        seen = inner.fresh("seen", "known", "met")
        return Flow(
            before=(f"const {seen} = new Set();",), lines=(f"if ({seen}.has({x})) continue;", f"{seen}.add({x});"), x=x
        )

    return Stage(
        key="distinct",
        verb=verb,
        noun="{} without repeats",
        kind=kind,
        js=lambda s: f"[...new Set({s})]",
        run=lambda vs, env: list(dict.fromkeys(vs)),
        flow=flow,
    )


def calmed(scope: Scope, kind: str) -> Stage:
    """Of equal neighbours one."""
    x = scope.item(kind)

    def flow(x: str, inner: Scope) -> Flow:
        last = inner.fresh("last", "previous", "before")
        return Flow(before=(f"let {last} = null;",), lines=(f"if ({x} === {last}) continue;", f"{last} = {x};"), x=x)

    return Stage(
        key="runs to one",
        verb="shrink every run of equal neighbours to one",
        kind=kind,
        flow=flow,
        noun="{} with every run of equal neighbours shrunk to one",
        js=lambda s: f"{s}.filter(({x}, i, all) => i === 0 || {x} !== all[i - 1])",
        run=lambda vs, env: [v for v, _ in groupby(vs)],
    )


def until(scope: Scope, kind: str) -> Stage:
    """What comes before the first value that keeps a rule."""
    x, test = scope.item(kind), rule(scope, kind, simple=True)

    def flow(x: str, inner: Scope) -> Flow:
        return Flow(before=(), lines=(f"if ({test.code(x)}) break;",), x=x)

    def lines(src: str, out: str, inner: Scope) -> list[str]:
        end = inner.fresh("end", "stop", "place")
        return [
            f"const {end} = {src}.findIndex(({x}) => {test.code(x)});",
            f"const {out} = {end} < 0 ? {src} : {src}.slice(0, {end});",
        ]

    return Stage(
        key=f"until({test.key})",
        verb=f"stop before the first one {test.single}",
        kind=kind,
        flow=flow,
        lines=lines,
        noun=f"{{}} that come before the first one {test.single}",
        js=lambda s: s,
        run=lambda vs, env: list(takewhile(lambda v: not test.run(v, env), vs)),
    )


def parted(scope: Scope, kind: str) -> Stage:
    """Those that keep a rule first."""
    x, test = scope.item(kind), rule(scope, kind, simple=True)
    return Stage(
        key=f"first({test.key})",
        verb=f"move those {test.many} to the front, the order staying otherwise",
        kind=kind,
        named=True,
        noun=f"{{}}, with those {test.many} moved to the front",
        js=lambda s: f"[...{s}.filter(({x}) => {test.code(x)}), ...{s}.filter(({x}) => {test.refusal(x)})]",
        run=lambda vs, env: [v for v in vs if test.run(v, env)] + [v for v in vs if not test.run(v, env)],
    )


def numbered(scope: Scope, kind: str) -> Stage:
    """Values times their place, or with their index before them."""
    x = scope.item(kind)
    if kind == NUMBER:
        return Stage(
            key="times place",
            verb="multiply each by its position, counted from 1",
            kind=NUMBER,
            noun="{}, each multiplied by its position (from 1)",
            js=lambda s: f"{s}.map(({x}, i) => {x} * (i + 1))",
            run=lambda vs, env: [v * i for i, v in enumerate(vs, 1)],
            block=lambda s, out: [
                f"const {out} = [];",
                f"for (let i = 0; i < {s}.length; i++) {out}.push({s}[i] * (i + 1));",
            ],
        )
    return Stage(
        key="numbered",
        verb='put its index and ":" in front of each',
        kind=WORD,
        noun='{}, each with its index and ":" in front',
        js=lambda s: f"{s}.map(({x}, i) => `${{i}}:${{{x}}}`)",
        run=lambda vs, env: [f"{i}:{v}" for i, v in enumerate(vs)],
        block=lambda s, out: [
            f"const {out} = [];",
            f'for (let i = 0; i < {s}.length; i++) {out}.push(i + ":" + {s}[i]);',
        ],
    )
