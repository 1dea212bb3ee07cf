"""Parts of composed programs run in both languages.

Covers: rules, changes and whole programs on drawn values. Does not cover: making tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random
from typing import Any

from octavo.data.programs.chain import Chain
from octavo.data.programs.script import STYLES, body
from octavo.data.tasks.javascript.judge import same
from octavo.sandbox import Limits, Sandbox


def results(calls: Iterable[str]) -> list[Any]:
    """What expressions give, in one program."""
    with Sandbox(Limits(seconds=20, result_chars=1 << 22)) as sandbox:
        outcome = sandbox.run("[" + ",\n".join(calls) + "]")
    assert outcome.error is None, outcome.error
    return outcome.value


def check_chains(chains: Iterable[Chain], seed: int = 0) -> int:
    """Every style of every program gives what Python gives; how many calls were made."""
    draw, calls, wanted = Random(seed), [], []
    for chain in chains:
        for style in STYLES:
            lines = body(chain, style)
            names = ", ".join(one.name for one in chain.scope.arguments)
            for size in (1, 4, 6):
                env = {one.name: one.make(draw, size) for one in chain.scope.arguments}
                try:
                    result, _ = chain.run(env)
                except ValueError:
                    continue
                given = ", ".join(json.dumps(value) for value in env.values())
                calls.append(f"(({names}) => {{\n{lines}}})({given})")
                wanted.append((chain.structure, style, lines, result))
    for given, (structure, style, lines, result) in zip(results(calls), wanted, strict=True):
        assert same(given, json.loads(json.dumps(result))), f"{structure} ({style}): {given} for {result}\n{lines}"
    return len(calls)
