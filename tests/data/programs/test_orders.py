"""Stages that look at places: what they leave, in what order."""

from __future__ import annotations

from random import Random

from octavo.data.programs import orders
from octavo.data.programs.piece import NUMBER, WORD, Scope


def all_of(maker, kind: str) -> dict:
    return {one.key: one for seed in range(60) for one in (maker(Scope(draw=Random(seed)), kind),)}


def test_places_and_orders() -> None:
    words = ["ox", "bee", "ant", "ox"]
    sorts = all_of(orders.ordered, WORD)
    assert sorts["sort length down"].run(words, {}) == ["bee", "ant", "ox", "ox"]
    assert sorts["sort down"].run(words, {}) == ["ox", "ox", "bee", "ant"]
    assert all_of(orders.every, WORD)["every 2"].run(words, {}) == ["ox", "ant"]
    assert all_of(orders.every, WORD)["odd places"].run(words, {}) == ["bee", "ox"]
    assert all_of(orders.numbered, WORD)["numbered"].run(words[:2], {}) == ["0:ox", "1:bee"]
    assert all_of(orders.distinct, WORD)["distinct"].run(words, {}) == words[:3]
    assert all_of(orders.turned, WORD)["reverse"].run(words, {}) == words[::-1]
    assert all_of(orders.calmed, NUMBER)["runs to one"].run([1, 1, 2, 1], {}) == [1, 2, 1]


def test_rules_cut_and_part() -> None:
    assert all_of(orders.until, NUMBER)["until(even)"].run([3, 5, 4, 7], {}) == [3, 5]
    assert all_of(orders.until, NUMBER)["until(even)"].run([3, 5], {}) == [3, 5]
    assert all_of(orders.parted, NUMBER)["first(even)"].run([3, 4, 5, 2], {}) == [4, 2, 3, 5]
