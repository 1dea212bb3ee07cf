"""Names are given once, constants become arguments and are read from the call, keys do not tell values."""

from __future__ import annotations

from random import Random

from octavo.data.programs.piece import NUMBER, Scope, has_rule, is_rule, keyed, made_change, remainder


def test_names_are_given_once() -> None:
    scope = Scope(draw=Random(0))
    assert sorted(scope.fresh("a", "b") for _ in range(4)) == ["a", "b", "b2", "b3"]
    assert scope.item(NUMBER) == scope.item(NUMBER)


def test_a_constant_may_be_an_argument() -> None:
    scope = Scope(draw=Random(0))
    assert scope.number(3, 3, "k", lift=1.0).value == 3  # the first argument is no constant
    scope.argument(("list",), "a list of numbers", lambda draw, size: [])
    lifted = scope.number(3, 9, "k", lift=1.0)
    assert (lifted.js, lifted.said, lifted.of({"k": 5})) == ("k", "`k`", 5)
    word = scope.text("ab", "part", lift=0.0)
    assert word.js == f'"{word.of({})}"'
    assert [one.name for one in scope.arguments] == ["list", "k"]
    assert (keyed("gt", lifted), keyed("gt", word)) == ("gt:a", "gt")


def test_rules_and_changes_in_code_and_words() -> None:
    rule = is_rule("even", "even", "@ % 2 === 0", "@ % 2 !== 0", lambda x, env: x % 2 == 0)
    assert (rule.code("x"), rule.refusal("x.age"), rule.single) == ("x % 2 === 0", "x.age % 2 !== 0", "that is even")
    assert has_rule("long", "has more", "have more", "@", "!@", lambda x, env: True).many == "that have more"
    change = made_change("twice", "double {}", "doubled", "@ * 2", lambda x, env: 2 * x)
    assert (change.noun, change.code("y")) == ("{}, each doubled", "y * 2")


def test_remainders_are_those_of_javascript() -> None:
    assert [remainder(a, 3) for a in (-4, -3, 4)] == [-1, 0, 1]
