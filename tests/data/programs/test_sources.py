"""Sources: their expression and their loop give the list that Python gives, arguments are named in the words."""

from __future__ import annotations

import json
from random import Random

from octavo.data.programs.piece import Scope
from octavo.data.programs.sources import source
from tests.support.composed import results


def test_expression_and_loop_agree_with_python() -> None:
    calls, wanted, keys = [], [], set()
    for seed in range(400):
        draw = Random(seed)
        scope = Scope(draw=draw)
        made = source(scope)
        keys.add(made.key)
        env = {one.name: one.make(draw, 4) for one in scope.arguments}
        setup, before = (" ".join(lines) for lines in (made.setup, made.before))
        inside = " ".join(line.format(x="q") for line in made.inside)
        loop = f"{before} const z = []; {made.head.format(x='q')} {inside} z.push(q); }} return z;"
        names, given = ", ".join(env), ", ".join(json.dumps(value) for value in env.values())
        calls.append(f"[(({names}) => {{ {setup} return {made.js}; }})({given}), (({names}) => {{ {loop} }})({given})]")
        wanted.append([made.run(env)] * 2)
        assert all(f"`{name}`" in made.noun for name in env), made.noun
    assert [[list(one) for one in pair] for pair in results(calls)] == wanted
    assert len(keys) > 28


def test_what_is_natural_is_never_negative() -> None:
    for seed in range(200):
        draw = Random(seed)
        scope = Scope(draw=draw)
        made = source(scope)
        if made.natural:
            assert min(made.run({one.name: one.make(draw, 5) for one in scope.arguments}), default=0) >= 0, made.key
