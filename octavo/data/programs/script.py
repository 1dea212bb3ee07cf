"""A program in JavaScript: as a loop, as one chain of methods, step by step, or with a named helper.

Covers: the lines of a function's body. Does not cover: the signature (`compose`).
"""

from __future__ import annotations

import re

from octavo.data.programs.chain import Chain
from octavo.data.programs.piece import CHARACTER, RECORD, WORD, Scope
from octavo.data.programs.step import Flow, Stage

STYLES = ("loop", "array", "steps", "helper")
_WIDE = 92
_LISTS = ("kept", "rest", "chosen", "picked", "found", "some", "left")
_MADE = ("made", "changed", "mapped", "next", "fresh")
_ORDERED = ("ordered", "arranged", "moved", "line")
_NEXT = {WORD: ("text", "made", "part", "label"), CHARACTER: ("sign", "made", "mark"), RECORD: ("made",)}
_NAME = re.compile(r"\w+")
_ALONE = re.compile(r"(?:push\(|\+= |\*= )\0(?=[;)])")


def body(chain: Chain, style: str) -> str:
    """The lines of the function's body, indented by two. Every call draws names anew from the chain's draw."""
    if chain.ending.lines and style in ("loop", "steps"):
        return "".join(f"  {line}\n" for line in chain.ending.lines)
    scope = Scope(draw=chain.scope.draw, taken=set(chain.scope.taken), items=dict(chain.scope.items))
    lines = _Loop(chain, scope).lines() if style == "loop" and not chain.ending.lines else _methods(chain, style, scope)
    return "".join(f"  {line}\n" for line in lines)


def _methods(chain: Chain, style: str, scope: Scope) -> list[str]:
    """Expressions of methods; a constant wherever one is needed or, style steps, for every stage."""
    lines, js = list(chain.source.setup), chain.source.js
    if len(js) > _WIDE // 2 and (chain.stages or len(js) > _WIDE * 3 // 4):
        js = _const(lines, js, scope, _MADE)
    for stage in chain.stages:
        if (stage.named or stage.lines is not None) and not _NAME.fullmatch(js):
            js = _const(lines, js, scope, _LISTS)
        if stage.lines is not None:
            out = scope.fresh(*_names(stage))
            lines += stage.lines(js, out, scope)
            js = out
            continue
        js = _helped(stage, js, lines, scope) if style == "helper" else stage.js(js)
        if style == "steps" or len(js) > _WIDE - 20:
            js = _const(lines, js, scope, _names(stage))
    if chain.ending.named and not _NAME.fullmatch(js):
        js = _const(lines, js, scope, _LISTS)
    last = f"return {chain.ending.js(js)};"
    if len(last) > _WIDE and not _NAME.fullmatch(js):
        last = f"return {chain.ending.js(_const(lines, js, scope, _LISTS))};"
    return [*lines, last]


def _const(lines: list[str], js: str, scope: Scope, names: tuple[str, ...]) -> str:
    """A constant that holds `js`, added to the lines; its name."""
    name = scope.fresh(*names)
    lines.append(f"const {name} = {js};")
    return name


def _names(stage: Stage) -> tuple[str, ...]:
    """What a list behind `stage` may be called."""
    return _MADE if stage.change is not None else _LISTS if stage.rule is not None else _ORDERED


def _helped(stage: Stage, js: str, lines: list[str], scope: Scope) -> str:
    """The stage by a function with a name of its own, where it is one of single values."""
    part = stage.rule or stage.change
    if part is None:
        return stage.js(js)
    x = scope.fresh("value", "given", "it", "one", "element")
    names = (
        ("fits", "isGood", "wanted", "test", "matches")
        if stage.rule is not None
        else ("change", "convert", "turn", "apply")
    )
    name = scope.fresh(*names)
    lines.append(f"const {name} = ({x}) => {part.code(x)};")
    return f"{js}.{'filter' if stage.rule is not None else 'map'}({name})"


class _Loop:
    """Loops that do as many stages at once as can be done value by value."""

    def __init__(self, chain: Chain, scope: Scope) -> None:
        self._chain, self._scope = chain, scope
        self._done: list[str] = []
        self._begin(chain.source.before, chain.source.head, scope.item(chain.source.kind), chain.source.inside)
        self._whole: str | None = chain.source.js  # the list as it stands, while the loop does nothing yet
        self._setup = chain.source.setup

    def lines(self) -> list[str]:
        """The whole body."""
        for stage in self._chain.stages:
            if stage.rule is not None:
                self._inner.append(("guard", stage.rule.code(self._x), stage.rule.refusal(self._x)))
            elif stage.change is not None:
                name = self._scope.fresh(*_NEXT.get(stage.kind, ("y", "next", "made", "z")))
                self._inner.append(("const", name, stage.change.code(self._x)))
                self._x = name
            elif stage.flow is not None:
                flow: Flow = stage.flow(self._x, self._scope)
                self._before += flow.before
                self._inner += [("line", line, "") for line in flow.lines]
                self._x = flow.x
            else:
                self._over(stage)
                continue
            self._whole = None
        return self._ended()

    def _begin(self, before: tuple[str, ...], head: str, x: str, inside: tuple[str, ...] = ()) -> None:
        self._before, self._x, self._head = list(before), x, head.format(x=x)
        self._inner = [("line", line.format(x=x), "") for line in inside]

    def _listed(self, name: bool) -> str:
        """The list so far, as an expression; by name if asked for."""
        if self._whole is not None:
            self._done += self._setup
            if name and not _NAME.fullmatch(self._whole):
                return _const(self._done, self._whole, self._scope, _LISTS)
            return self._whole
        out = self._scope.fresh(*_LISTS)
        self._close((f"const {out} = [];",), lambda x: (f"{out}.push({x});",))
        return out

    def _over(self, stage: Stage) -> None:
        """A stage that needs the whole list."""
        listed = self._listed(stage.named or stage.block is not None or stage.lines is not None)
        out = self._scope.fresh(*_ORDERED)
        if stage.block is not None:
            self._done += stage.block(listed, out)
        elif stage.lines is not None:
            self._done += stage.lines(listed, out, self._scope)
        else:
            self._done.append(f"const {out} = {stage.js(listed)};")
        self._begin((), f"for (const {{x}} of {out}) {{{{", self._scope.item(stage.kind))
        self._whole, self._setup = out, ()

    def _ended(self) -> list[str]:
        end = self._chain.ending
        if end.step is None or (end.key == "list" and self._whole is not None):
            return [*self._done_with(end.named), f"return {end.js(self._last)};"]
        self._close(end.start, end.step)
        return [*self._done, f"return {end.result};"]

    def _done_with(self, name: bool) -> list[str]:
        self._last = self._listed(name)
        return self._done

    def _close(self, start: tuple[str, ...], step) -> None:
        """Write the loop, `step` at its end."""
        x, inner = self._x, list(self._inner)
        if (
            inner
            and inner[-1][0] == "const"
            and _ALONE.search(" ".join(step("\0")))
            and " ".join(step("\0")).count("\0") == 1
        ):
            x = inner.pop()[2]
        tail = list(step(x))
        written = []
        for place, (kind, first, second) in enumerate(inner):
            if kind == "const":
                written.append(f"const {first} = {second};")
            elif kind == "line":
                written.append(first)
            elif (
                place == len(inner) - 1
                and len(tail) == 1
                and not tail[0].startswith("if")
                and len(first) + len(tail[0]) < _WIDE
            ):
                tail[0] = f"if ({first}) {tail[0]}"
            else:
                written.append(f"if ({second}) continue;")
        self._done += [*self._before, *start, self._head, *(f"  {line}" for line in (*written, *tail)), "}"]
