"""Rules on numbers, words and characters hold in JavaScript where they hold in Python, and their opposites do not."""

from __future__ import annotations

import json
from random import Random

import pytest

from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Scope
from octavo.data.programs.rules import field_rule, record_rule, rule
from tests.support.composed import results

VALUES = {
    NUMBER: [-9, -4, -1, 0, 1, 2, 4, 7, 9, 12, 16, 25, 30],
    WORD: ["apple", "ox", "level", "ant", "noon", "tart", "", "Ice"],
    CHARACTER: ["a", "b", "z", "A", "Z", "7", " ", "m", "n", "-", "ee"],
}


@pytest.mark.parametrize("kind", VALUES)
def test_rules_hold_in_both_languages(kind: str) -> None:
    calls, wanted, keys = [], [], set()
    for seed in range(250):
        scope = Scope(draw=Random(seed), natural=seed % 2 == 0)
        made = rule(scope, kind)
        keys.add(made.key)
        values = [value for value in VALUES[kind] if kind != NUMBER or not scope.natural or value >= 0]
        calls += [f"[{made.code(json.dumps(v))}, {made.refusal(json.dumps(v))}]" for v in values]
        wanted += [[made.run(v, {}), not made.run(v, {})] for v in values]
    assert results(calls) == wanted
    assert len(keys) >= 14


def test_a_field_of_a_record() -> None:
    inner = rule(Scope(draw=Random(1)), NUMBER, simple=True)
    made = field_rule(inner, "age", ".age", lambda row: row["age"])
    assert made.many == f"whose age {inner.one}"
    assert made.code("row") == inner.code("row.age")
    assert made.run({"age": 4}, {}) == inner.run(4, {})
    assert "row." in record_rule(Scope(draw=Random(2)), {"name": "person", "age": "age"}).code("row")
