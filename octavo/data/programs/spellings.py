"""Conditions on words and characters.

Covers: how each is drawn. Does not cover: numbers and joined conditions (`rules`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

from octavo.data.programs.piece import Rule, Scope, has_rule, is_rule, keyed
from octavo.data.programs.values import LETTERS, VOWELS


def _sized(name: str, said: str, op: str, opposite: str, test: Callable) -> Callable[[Scope], Rule]:
    def made(scope: Scope) -> Rule:
        k = scope.number(3, 5, "size", "length", "limit", "k", lift=0.2)
        what = f"{said} {k.said} {scope.draw.choice(('letters', 'characters'))}"
        return has_rule(
            keyed(name, k),
            f"has {what}",
            f"have {what}",
            f"@.length {op} {k.js}",
            f"@.length {opposite} {k.js}",
            lambda x, env: test(len(x), k.of(env)),
        )

    return made


def _starts(scope: Scope) -> Rule:
    c = scope.text(LETTERS, "letter", "start", "prefix")
    verb = scope.draw.choice(("start", "begin"))
    return has_rule(
        keyed("starts", c),
        f"{verb}s with {c.said}",
        f"{verb} with {c.said}",
        f"@.startsWith({c.js})",
        f"!@.startsWith({c.js})",
        lambda x, env: x.startswith(c.of(env)),
    )


def _ends(scope: Scope) -> Rule:
    c = scope.text(LETTERS, "letter", "ending", "suffix")
    return has_rule(
        keyed("ends", c),
        f"ends with {c.said}",
        f"end with {c.said}",
        f"@.endsWith({c.js})",
        f"!@.endsWith({c.js})",
        lambda x, env: x.endswith(c.of(env)),
    )


def _contains(scope: Scope) -> Rule:
    c = scope.text(LETTERS, "letter", "part", "piece")
    if scope.draw.random() < 0.3:
        return has_rule(
            keyed("lacks", c),
            f"does not contain {c.said}",
            f"do not contain {c.said}",
            f"!@.includes({c.js})",
            f"@.includes({c.js})",
            lambda x, env: c.of(env) not in x,
        )
    return has_rule(
        keyed("contains", c),
        f"contains {c.said}",
        f"contain {c.said}",
        f"@.includes({c.js})",
        f"!@.includes({c.js})",
        lambda x, env: c.of(env) in x,
    )


def _vowel_first(scope: Scope) -> Rule:
    return has_rule(
        "vowel first",
        "starts with a small vowel",
        "start with a small vowel",
        "/^[aeiou]/.test(@)",
        "!/^[aeiou]/.test(@)",
        lambda x, env: x[:1] != "" and x[0] in VOWELS,
    )


def _even_length(scope: Scope) -> Rule:
    return has_rule(
        "even length",
        "has an even length",
        "have an even length",
        "@.length % 2 === 0",
        "@.length % 2 !== 0",
        lambda x, env: len(x) % 2 == 0,
    )


def _before(scope: Scope) -> Rule:
    c = scope.text("fghmnpr", "word", "border")
    return has_rule(
        keyed("before", c),
        f"comes before {c.said} in the alphabet",
        f"come before {c.said} in the alphabet",
        f"@.toLowerCase() < {c.js}",
        f"@.toLowerCase() >= {c.js}",
        lambda x, env: x.lower() < c.of(env),
    )


def _same_ends(scope: Scope) -> Rule:
    return has_rule(
        "same ends",
        "begins and ends with the same character",
        "begin and end with the same character",
        "@.at(0) === @.at(-1)",
        "@.at(0) !== @.at(-1)",
        lambda x, env: x[:1] == x[-1:],
    )


def _vowel(scope: Scope) -> Rule:
    return Rule(
        key="vowel",
        one="is a small vowel",
        many="that are small vowels",
        js='"aeiou".includes(@)',
        neg='!"aeiou".includes(@)',
        run=lambda x, env: x in VOWELS,
    )


def _consonant(scope: Scope) -> Rule:
    return Rule(
        key="consonant",
        one="is a small consonant",
        many="that are small consonants",
        js="/^[b-df-hj-np-tv-z]$/.test(@)",
        neg="!/^[b-df-hj-np-tv-z]$/.test(@)",
        run=lambda x, env: len(x) == 1 and x in "bcdfghjklmnpqrstvwxyz",
    )


def _span(key: str, one: str, many: str, low: str, high: str) -> Callable[[Scope], Rule]:
    def made(scope: Scope) -> Rule:
        return Rule(
            key=key,
            one=f"is {one}",
            many=f"that are {many}",
            js=f'@ >= "{low}" && @ <= "{high}"',
            neg=f'(@ < "{low}" || @ > "{high}")',
            run=lambda x, env: low <= x <= high,
        )

    return made


def _one_of(scope: Scope) -> Rule:
    some = "".join(sorted(scope.draw.sample(LETTERS, scope.draw.randint(2, 4))))
    said = ", ".join(json.dumps(c) for c in some[:-1]) + f" or {json.dumps(some[-1])}"
    return is_rule("one of", said, f'"{some}".includes(@)', f'!"{some}".includes(@)', lambda x, env: x in some)


def _equals(scope: Scope) -> Rule:
    c = scope.text(LETTERS, "letter", "char", "sign", lift=0.5)
    if scope.draw.random() < 0.5:
        return is_rule(
            keyed("not", c), f"not {c.said}", f"@ !== {c.js}", f"@ === {c.js}", lambda x, env: x != c.of(env)
        )
    return Rule(
        key=keyed("equal", c),
        one=f"equals {c.said}",
        many=f"that equal {c.said}",
        js=f"@ === {c.js}",
        neg=f"@ !== {c.js}",
        run=lambda x, env: x == c.of(env),
    )


WORD_RULES: tuple[Callable[[Scope], Rule], ...] = (
    _sized("longer", "more than", ">", "<=", lambda a, b: a > b),
    _sized("shorter", "fewer than", "<", ">=", lambda a, b: a < b),
    _sized("sized", "exactly", "===", "!==", lambda a, b: a == b),
    _starts, _ends, _contains, _contains, _vowel_first, _even_length, _before, _same_ends,
)  # fmt: skip
CHARACTER_RULES: tuple[Callable[[Scope], Rule], ...] = (
    _vowel, _consonant, _span("digit", "a digit", "digits", "0", "9"),
    _span("capital", "a capital letter", "capital letters", "A", "Z"),
    _span("small", "a small letter", "small letters", "a", "z"),
    _span("early", "a small letter from a to m", "small letters from a to m", "a", "m"), _one_of, _equals,
)  # fmt: skip
