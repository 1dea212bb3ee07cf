"""Conditions on numbers, words, characters and fields of records.

Covers: drawing one. Does not cover: where conditions are used (`stages`, `endings`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random

from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Rule, Scope, is_rule, keyed, remainder
from octavo.data.programs.spellings import CHARACTER_RULES, WORD_RULES
from octavo.data.programs.values import TEXT_FIELDS, draw_numbers, draw_words

_COMPOUND = 0.1


def rule(scope: Scope, kind: str, *, simple: bool = False) -> Rule:
    """A condition on values of `kind`; unless `simple`, one in ten joins two."""
    first = scope.draw.choice(_RULES[kind])(scope)
    if simple or scope.draw.random() >= _COMPOUND:
        return first
    for _ in range(5):
        second = scope.draw.choice(_RULES[kind])(scope)
        if second.key != first.key and "&&" not in first.js + second.js and "in `" not in second.one + first.one:
            return _joined(first, second, scope.draw)
    return first


def _joined(a: Rule, b: Rule, draw: Random) -> Rule:
    """Both hold, or one of them."""
    if draw.random() < 0.5:
        return Rule(
            key=f"and({a.key},{b.key})",
            one=f"{a.one} and {b.one}",
            many=f"{a.many} and {b.many.removeprefix('that ')}",
            js=f"{a.js} && {b.js}",
            neg=f"!({a.js} && {b.js})",
            run=lambda x, env: a.run(x, env) and b.run(x, env),
        )
    return Rule(
        key=f"or({a.key},{b.key})",
        one=f"{a.one} or {b.one}",
        many=f"{a.many} or {b.many.removeprefix('that ')}",
        js=f"({a.js} || {b.js})",
        neg=f"!({a.js} || {b.js})",
        run=lambda x, env: a.run(x, env) or b.run(x, env),
    )


def field_rule(inner: Rule, field: str, access: str, get: Callable) -> Rule:
    """`inner` on a field of a record; access: the field in code, as ".age"."""
    return Rule(
        key=f"field({inner.key})",
        one=f"has a {field} that {inner.one}",
        many=f"whose {field} {inner.one}",
        js=inner.js.replace("@", f"@{access}"),
        neg=inner.neg.replace("@", f"@{access}"),
        run=lambda x, env: inner.run(get(x), env),
    )


def _even(scope: Scope) -> Rule:
    return is_rule("even", "even", "@ % 2 === 0", "@ % 2 !== 0", lambda x, env: x % 2 == 0)


def _odd(scope: Scope) -> Rule:
    return is_rule("odd", "odd", "@ % 2 !== 0", "@ % 2 === 0", lambda x, env: x % 2 != 0)


def _divisible(scope: Scope) -> Rule:
    k = scope.number(3, 7, "k", "divisor", "base")
    said = scope.draw.choice(("divisible by {}", "a multiple of {}")).format(k.said)
    many = f"that are {'multiples' if said[0] == 'a' else 'divisible'} {'of' if said[0] == 'a' else 'by'} {k.said}"
    return Rule(
        key=keyed("div", k),
        one=f"is {said}",
        many=many,
        js=f"@ % {k.js} === 0",
        neg=f"@ % {k.js} !== 0",
        run=lambda x, env: x % k.of(env) == 0,
    )


def _indivisible(scope: Scope) -> Rule:
    k = scope.number(3, 6, "k", "divisor")
    return is_rule(
        keyed("notdiv", k),
        f"not divisible by {k.said}",
        f"@ % {k.js} !== 0",
        f"@ % {k.js} === 0",
        lambda x, env: x % k.of(env) != 0,
    )


def _compared(name: str, said: tuple[str, ...], op: str, opposite: str, test: Callable) -> Callable[[Scope], Rule]:
    def made(scope: Scope) -> Rule:
        k = scope.number(*((2, 7) if scope.natural else (0, 20)), "limit", "bound", "min", "threshold", "k", lift=0.2)
        return is_rule(
            keyed(name, k),
            f"{scope.draw.choice(said)} {k.said}",
            f"@ {op} {k.js}",
            f"@ {opposite} {k.js}",
            lambda x, env: test(x, k.of(env)),
        )

    return made


def _between(scope: Scope) -> Rule:
    low = scope.draw.randint(1, 3) if scope.natural else scope.draw.randint(-3, 10)
    high = low + (scope.draw.randint(2, 5) if scope.natural else scope.draw.randint(5, 20))
    said = scope.draw.choice(("between {} and {} inclusive", "from {} to {}", "at least {} and at most {}"))
    return is_rule(
        "between",
        said.format(low, high),
        f"@ >= {low} && @ <= {high}",
        f"(@ < {low} || @ > {high})",
        lambda x, env: low <= x <= high,
    )


def _signed(scope: Scope) -> Rule:
    if scope.natural or scope.draw.random() < 0.5:
        return is_rule(
            "positive", scope.draw.choice(("positive", "above zero")), "@ > 0", "@ <= 0", lambda x, env: x > 0
        )
    return is_rule("negative", scope.draw.choice(("negative", "below zero")), "@ < 0", "@ >= 0", lambda x, env: x < 0)


def _ends_in(scope: Scope) -> Rule:
    k = scope.draw.randint(1, 7)
    return Rule(
        key="last digit",
        one=f"ends in the digit {k}",
        many=f"that end in the digit {k}",
        js=f"Math.abs(@) % 10 === {k}",
        neg=f"Math.abs(@) % 10 !== {k}",
        run=lambda x, env: abs(x) % 10 == k,
    )


def _leaves(scope: Scope) -> Rule:
    if not scope.natural:
        return _even(scope)
    k = scope.draw.randint(3, 5)
    rest = scope.draw.randint(1, k - 1)
    return Rule(
        key="rest",
        one=f"leaves remainder {rest} when divided by {k}",
        many=f"that leave remainder {rest} when divided by {k}",
        js=f"@ % {k} === {rest}",
        neg=f"@ % {k} !== {rest}",
        run=lambda x, env: remainder(x, k) == rest,
    )


def _square(scope: Scope) -> Rule:
    return Rule(
        key="square",
        one="is a perfect square",
        many="that are perfect squares",
        js="Number.isInteger(Math.sqrt(@))",
        neg="!Number.isInteger(Math.sqrt(@))",
        run=lambda x, env: x >= 0 and math.isqrt(x) ** 2 == x,
    )


def _member(kind: str) -> Callable[[Scope], Rule]:
    def made(scope: Scope) -> Rule:
        if len(scope.arguments) != 1:
            return scope.draw.choice(_RULES[kind][:4])(scope)
        words = kind == WORD
        name = scope.argument(
            ("allowed", "other", "known", "wanted", "second", "chosen"),
            f"a list of {kind}s",
            draw_words if words else (lambda draw, size: draw_numbers(draw, size + 3)),
        )
        if scope.draw.random() < 0.5:
            return is_rule(
                "in:a", f"in `{name}`", f"{name}.includes(@)", f"!{name}.includes(@)", lambda x, env: x in env[name]
            )
        return is_rule(
            "out:a",
            f"not in `{name}`",
            f"!{name}.includes(@)",
            f"{name}.includes(@)",
            lambda x, env: x not in env[name],
        )

    return made


_RULES: dict[str, tuple[Callable[[Scope], Rule], ...]] = {
    NUMBER: (
        _even, _odd, _divisible, _indivisible,
        _compared("gt", ("greater than", "larger than", "above", "more than"), ">", "<=", lambda a, b: a > b),
        _compared("lt", ("less than", "smaller than", "below"), "<", ">=", lambda a, b: a < b),
        _compared("ge", ("at least", "not less than"), ">=", "<", lambda a, b: a >= b),
        _compared("le", ("at most", "not more than"), "<=", ">", lambda a, b: a <= b),
        _between, _signed, _ends_in, _leaves, _square, _member(NUMBER),
    ),
    WORD: (*WORD_RULES, _member(WORD)),
    CHARACTER: CHARACTER_RULES,
}  # fmt: skip


def record_rule(scope: Scope, fields: Mapping[str, str]) -> Rule:
    """A condition on one field of a record."""
    name = scope.draw.choice(list(fields))
    inner = rule(scope, WORD if fields[name] in TEXT_FIELDS else NUMBER, simple=True)
    return field_rule(inner, name, f".{name}", lambda row: row[name])
