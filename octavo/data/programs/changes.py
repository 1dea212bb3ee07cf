"""Changes of one value: arithmetic, letters, words made of numbers and numbers of words, choices by a rule.

Covers: drawing one. Does not cover: where changes are used (`stages`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

from octavo.data.programs.edits import CHARACTER_EDITS, CHOSEN_EDITS, WORD_EDITS
from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Change, Scope, keyed, made_change, remainder
from octavo.data.programs.rules import rule

_CHOICE = 0.2
_LABELS = (("low", "high"), ("yes", "no"), ("in", "out"), ("small", "big"), ("hit", "miss"), ("on", "off"))


def change(scope: Scope, kind: str) -> Change:
    """A change of values of `kind`; one in five depends on a rule."""
    if scope.draw.random() < _CHOICE:
        return _labelled(scope, kind) if scope.draw.random() < 0.4 else _chosen(scope, kind)
    return plain_change(scope, kind)


def plain_change(scope: Scope, kind: str) -> Change:
    """A change of values of `kind` that depends on no rule."""
    return scope.draw.choice(_CHANGES[kind])(scope)


def _times(scope: Scope) -> Change:
    k = scope.number(2, 9, "factor", "k", "scale")
    return made_change(
        keyed("times", k),
        f"multiply {{}} by {k.said}",
        f"multiplied by {k.said}",
        f"@ * {k.js}",
        lambda x, env: x * k.of(env),
    )


def _plus(scope: Scope) -> Change:
    k = scope.number(1, 12, "step", "offset", "extra", "k")
    if scope.draw.random() < 0.3:
        return made_change(
            keyed("minus", k),
            f"subtract {k.said} from {{}}",
            f"reduced by {k.said}",
            f"@ - {k.js}",
            lambda x, env: x - k.of(env),
        )
    return made_change(
        keyed("plus", k), f"add {k.said} to {{}}", f"increased by {k.said}", f"@ + {k.js}", lambda x, env: x + k.of(env)
    )


def _affine(scope: Scope) -> Change:
    k, p = scope.draw.randint(2, 6), scope.draw.randint(1, 9)
    return made_change(
        "affine",
        f"multiply {{}} by {k} and then subtract {p}",
        f"multiplied by {k} and reduced by {p}",
        f"@ * {k} - {p}",
        lambda x, env: x * k - p,
    )


def _from(scope: Scope) -> Change:
    k = scope.number(10, 50, "top", "whole", "k")
    return made_change(
        keyed("from", k),
        f"subtract {{}} from {k.said}",
        f"subtracted from {k.said}",
        f"{k.js} - @",
        lambda x, env: k.of(env) - x,
    )


def _square(scope: Scope) -> Change:
    if scope.draw.random() < 0.25:
        return made_change("cube", "cube {}", "the cubes of {}", "@ ** 3", lambda x, env: x**3)
    js = scope.draw.choice(("@ * @", "@ ** 2"))
    return made_change("square", "square {}", "the squares of {}", js, lambda x, env: x * x)


def _absolute(scope: Scope) -> Change:
    return made_change(
        "abs", "take the absolute value of {}", "the absolute values of {}", "Math.abs(@)", lambda x, env: abs(x)
    )


def _divided(scope: Scope) -> Change:
    k = scope.number(2, 5, "k", "parts", "divisor")
    return made_change(
        keyed("divide", k),
        f"divide {{}} by {k.said}, rounding down",
        f"divided by {k.said} and rounded down",
        f"Math.floor(@ / {k.js})",
        lambda x, env: x // k.of(env),
    )


def _rest(scope: Scope) -> Change:
    if not scope.natural:
        return _absolute(scope)
    k = scope.number(2, 7, "k", "modulus", "base")
    return made_change(
        keyed("mod", k),
        f"take the remainder of {{}} after division by {k.said}",
        f"the remainders of {{}} after division by {k.said}",
        f"@ % {k.js}",
        lambda x, env: remainder(x, k.of(env)),
    )


def _capped(scope: Scope) -> Change:
    k = scope.number(*((3, 7) if scope.natural else (4, 18)), "limit", "cap", "bound", lift=0.25)
    if scope.draw.random() < 0.5:
        return made_change(
            keyed("cap", k),
            f"lower {{}} to {k.said} if it is larger",
            f"limited to {k.said} at most",
            f"Math.min(@, {k.js})",
            lambda x, env: min(x, k.of(env)),
        )
    return made_change(
        keyed("floor", k),
        f"raise {{}} to {k.said} if it is smaller",
        f"raised to {k.said} at least",
        f"Math.max(@, {k.js})",
        lambda x, env: max(x, k.of(env)),
    )


def _negated(scope: Scope) -> Change:
    return made_change("negate", "flip the sign of {}", "with its sign flipped", "-@", lambda x, env: -x)


def _length_of_number(scope: Scope) -> Change:
    if scope.draw.random() < 0.5:
        return made_change(
            "to text", "turn {} into a string", "turned into a string", "String(@)", lambda x, env: str(x), WORD
        )
    return made_change(
        "distance",
        "take the distance of {} from 10",
        "the distances of {} from 10",
        "Math.abs(@ - 10)",
        lambda x, env: abs(x - 10),
    )


def _triangle(scope: Scope) -> Change:
    return made_change(
        "triangle",
        "multiply {} by the number one larger than it",
        "multiplied by the number one larger than it",
        "@ * (@ + 1)",
        lambda x, env: x * (x + 1),
    )


def _chosen(scope: Scope, kind: str) -> Change:
    """One change where a rule holds; another, or none, where it does not."""
    if kind == CHARACTER:
        mark = json.dumps(scope.draw.choice("*#_.?"))
        test = rule(scope, kind, simple=True)
        return made_change(
            f"if({test.key},mark)",
            f"replace {{}} by {mark} if it {test.one}",
            f"replaced by {mark} if it {test.one}",
            f"{test.js} ? {mark} : @",
            lambda x, env: json.loads(mark) if test.run(x, env) else x,
            CHARACTER,
        )
    makers = (_times, _plus, _negated, _square, _from) if kind == NUMBER else CHOSEN_EDITS
    test = rule(scope, kind, simple=True)
    yes = scope.draw.choice(makers)(scope)
    no = scope.draw.choice(makers)(scope) if scope.draw.random() < 0.5 else None
    if no is None or no.key == yes.key:
        said = scope.draw.choice(("leave it as it is otherwise", "otherwise keep it unchanged", "else leave it alone"))
        return made_change(
            f"if({test.key},{yes.key})",
            f"if {{}} {test.one}, {yes.verb.format('it')}; {said}",
            f"changed as follows: if it {test.one}, {yes.verb.format('it')}; {said}",
            f"{test.js} ? {yes.js} : @",
            lambda x, env: yes.run(x, env) if test.run(x, env) else x,
            yes.out,
        )
    return made_change(
        f"if({test.key},{yes.key},{no.key})",
        f"if {{}} {test.one}, {yes.verb.format('it')}, otherwise {no.verb.format('it')}",
        f"changed as follows: if it {test.one}, {yes.verb.format('it')}, otherwise {no.verb.format('it')}",
        f"{test.js} ? {yes.js} : {no.js}",
        lambda x, env: yes.run(x, env) if test.run(x, env) else no.run(x, env),
        yes.out,
    )


def _labelled(scope: Scope, kind: str) -> Change:
    """A word that tells whether a rule holds; one in three tells apart three cases."""
    yes, no = scope.draw.choice(_LABELS)
    test = rule(scope, kind, simple=True)
    if scope.draw.random() < 0.33:
        second = rule(scope, kind, simple=True)
        if second.key != test.key:
            said = f'"{yes}" if it {test.one}, "mid" if not but it {second.one}, and "{no}" otherwise'
            return made_change(
                f"label({test.key},{second.key})",
                f"replace {{}} by {said}",
                f"replaced by {said}",
                f'{test.js} ? "{yes}" : {second.js} ? "mid" : "{no}"',
                lambda x, env: yes if test.run(x, env) else "mid" if second.run(x, env) else no,
                WORD,
            )
    said = f'"{yes}" if it {test.one} and by "{no}" if not'
    return made_change(
        f"label({test.key})",
        f"replace {{}} by {said}",
        f"replaced by {said}",
        f'{test.js} ? "{yes}" : "{no}"',
        lambda x, env: yes if test.run(x, env) else no,
        WORD,
    )


_CHANGES: dict[str, tuple[Callable[[Scope], Change], ...]] = {
    NUMBER: (
        _times, _plus, _affine, _from, _square, _absolute, _divided, _rest, _capped, _negated, _length_of_number,
        _triangle,
    ),
    WORD: WORD_EDITS,
    CHARACTER: CHARACTER_EDITS,
}  # fmt: skip
