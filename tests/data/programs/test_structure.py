"""Structures: what comes to the same has one form, what does not has two."""

from __future__ import annotations

from random import Random

import pytest

from octavo.data.programs.chain import chain
from octavo.data.programs.structure import canonical, head


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("numbers > keep(gt) > list", "numbers > keep(gt:a) > list"),
        ("numbers > keep(odd) > list", "numbers > drop(even) > list"),
        ("numbers > keep(ge) > list", "numbers > drop(lt:a) > list"),
        ("numbers > keep(even) > count", "numbers > count(even)"),
        ("records > keep(field(gt)) > count", "records > map(field) > drop(le) > count"),
        ("records > any(field(even))", "records > map(field) > any(odd)"),
        ("records > sort field up > map(field) > list", "records > map(field) > sort up > list"),
        ("numbers > keep(and(even,gt)) > sum", "numbers > drop(or(le,odd)) > sum"),
        ("numbers > keep(even) > reverse > keep(gt) > list", "numbers > keep(and(gt,even)) > reverse > list"),
        ("numbers > keep(even) > any(gt)", "numbers > keep(gt) > any(even)"),
        ("digits back > keep(gt) > map(square) > max", "digits > keep(gt) > map(square) > max"),
        ("digits back > list", "digits > reverse > list"),
        ("digits back > streak(even)", "digits > streak(odd)"),
        ("numbers > sort up > map(times) > sum", "numbers > map(times:a) > sum"),
        ("numbers > sort up > reverse > list", "numbers > sort down > list"),
        ("numbers > sort up > keep(even) > list", "numbers > keep(even) > sort up > list"),
        ("numbers > sort up > last", "numbers > max"),
        ("numbers > reverse > last(even)", "numbers > first(odd)"),
        ("numbers > map(if(even,times,plus)) > sum", "numbers > map(if(odd,plus,times)) > sum"),
        ("numbers > map(affine) > sum", "numbers > map(times) > map(minus) > sum"),
        ("multiples > sum", "from 1 > map(times) > sum"),
        ("words > distinct > count", "words > different"),
        ("words > map(length) > sum", "words > total length"),
        ("words > map(length) > reverse > count", "words > count"),
        ("characters > state(vowel,up,zero)", "characters > state(vowel,zero,up)"),
        ("one number > ladder(even:word,gt:a:word,word)", "one number > ladder(odd:word,le:word,word)"),
        ("numbers > every 2 > list", "numbers > every 3 > list"),
        ("characters > join with", "characters > join bare"),
    ],
)
def test_two_of_one_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("numbers > keep(even) > sum", "numbers > keep(square) > sum"),
        ("numbers > keep(even) > sum", "numbers > keep(even) > product"),
        ("numbers > keep(even) > map(times) > sum", "numbers > map(times) > keep(even) > sum"),
        ("digits back > list", "digits > list"),
        ("digits back > alternating", "digits > alternating"),
        ("numbers > sort up > first > list", "numbers > sort down > first > list"),
        ("numbers > first(even)", "numbers > last(even)"),
        ("numbers > max", "numbers > min"),
        ("numbers > distinct > sum", "numbers > sum"),
        ("characters > state(vowel,up,zero)", "characters > state(vowel,up,zero,floor)"),
        ("words > first(ends) > list", "words > first > list"),
        ("words > numbered > reverse > list", "words > reverse > numbered > list"),
    ],
)
def test_two_of_two_forms(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_a_form_is_its_own_form() -> None:
    forms = {chain(Random(seed)).canonical for seed in range(2000)}
    assert len(forms) > 1200
    assert {canonical(form) for form in forms} == forms


def test_heads_end_at_spaces_brackets_and_marks() -> None:
    assert [head(key) for key in ("sort length up", "first:a", "first(even)", "skip last", "sum")] == [
        "sort", "first", "first", "skip", "sum",
    ]  # fmt: skip
