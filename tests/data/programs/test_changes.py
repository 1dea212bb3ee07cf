"""Changes give in JavaScript what they give in Python."""

from __future__ import annotations

import json
from random import Random

import pytest

from octavo.data.programs.changes import change, plain_change
from octavo.data.programs.piece import CHARACTER, NUMBER, WORD, Scope
from tests.data.programs.test_rules import VALUES
from tests.support.composed import results


@pytest.mark.parametrize("kind", [NUMBER, WORD, CHARACTER])
def test_changes_agree(kind: str) -> None:
    calls, wanted, keys = [], [], set()
    for seed in range(250):
        scope = Scope(draw=Random(seed), natural=seed % 2 == 0)
        made = change(scope, kind)
        keys.add(made.key)
        for value in (v for v in VALUES[kind] if kind != NUMBER or not scope.natural or v >= 0):
            calls.append(f"((x) => {made.code('x')})({json.dumps(value)})")
            wanted.append(made.run(value, {}))
    assert results(calls) == wanted
    assert len(keys) > (12 if kind == CHARACTER else 25)
    assert any(key.startswith("if(") for key in keys)
    assert any(key.startswith("label(") for key in keys)


def test_plain_changes_depend_on_no_rule() -> None:
    assert not any("(" in plain_change(Scope(draw=Random(seed)), NUMBER).key for seed in range(60))
