"""What every family of JavaScript tasks must hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from random import Random

from octavo.data.tasks.javascript.arguments import arguments
from octavo.data.tasks.javascript.family import Family, fill
from octavo.data.tasks.javascript.judge import program
from octavo.data.tasks.javascript.mutants import mutants
from octavo.data.tasks.javascript.task import _json, _verified
from octavo.sandbox import Limits, Sandbox, Status


def check_families(families: Sequence[Family]) -> None:
    """All forms of a family run and agree, whatever is drawn; each form can be told from a mutant."""
    with Sandbox(Limits(seconds=1)) as sandbox:
        for family in families:
            assert len(family.wordings) >= 2, family.name
            for seed in (1, 2):
                results = {form: _results(family, form, seed, sandbox) for form in family.forms}
                first, *others = results.values()
                assert all(other == first for other in others), (family.name, seed, results)
            for form in family.forms:
                one = dataclasses.replace(family, forms={form: family.forms[form]})
                draws = [Random(f"{family.name}/{number}") for number in range(6)]
                tried = (_verified(fill(one, draw, test=True), draw, sandbox) for draw in draws)
                examples, tests, broken = next(found for found in tried if found is not None)
                assert len(examples) == 3
                assert len(tests) >= 4
                assert not set(examples) & set(tests)
                assert broken != ""
                assert mutants(fill(one, Random(0), test=True).answer, Random(0), 9)


def _results(family: Family, form: str, seed: int, sandbox: Sandbox) -> object:
    """Of one form, with the same places and arguments for all forms of a seed."""
    draw = Random(f"{family.name}/{seed}")
    # Every form in the place of all keeps the number of draws, and so the places, equal.
    filled = fill(dataclasses.replace(family, forms=dict.fromkeys(family.forms, family.forms[form])), draw, test=True)
    given = [arguments(family.args, Random(f"{seed}/{size}"), size) for size in range(8)]
    calls = [f"{filled.name}({', '.join(_json(value) for value in values)})" for values in given]
    outcome = sandbox.run(program(filled.answer, calls))
    assert outcome.status is Status.OK, (family.name, form, outcome.error)
    return outcome.value
