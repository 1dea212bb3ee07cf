"""Programs: thousands of structures, one in twelve kept for tests, the same for the same draw."""

from __future__ import annotations

import re
from random import Random

import pytest

from octavo.data.programs.chain import HELD_OUT, Chain, chain
from octavo.data.programs.piece import RECORD
from octavo.data.programs.structure import head


def test_structures_are_many_and_one_in_twelve_is_held_out() -> None:
    made = [chain(Random(seed)) for seed in range(3000)]
    assert len({one.structure for one in made}) > 2300
    structures = {one.canonical: one.held_out for one in made}
    assert sum(structures.values()) == pytest.approx(len(structures) / HELD_OUT, rel=0.25)
    assert {len(one.stages) for one in made} == {0, 1, 2, 3, 4}
    assert chain(Random(5)).structure == made[5].structure


def test_structures_do_not_tell_constants() -> None:
    for seed in range(200):
        assert not any(str(n) in chain(Random(seed)).structure for n in range(4, 100))


def test_runs_tell_which_stages_did_something() -> None:
    drawn = (chain(Random(seed)) for seed in range(5000))
    made = next(
        one for one in drawn
        if one.source.key == "numbers" and [s.key for s in one.stages] == ["reverse"] and len(one.scope.arguments) == 1
    )  # fmt: skip
    (name,) = (one.name for one in made.scope.arguments)
    assert [made.run({name: values})[1] for values in ([], [4, 4], [4, 5])] == [(False,), (False,), (True,)]


def test_a_program_sorts_cuts_and_adds_up_once() -> None:
    for seed in range(3000):
        heads = [head(stage.key) for stage in chain(Random(seed)).stages]
        assert all(heads.count(name) <= 1 for name in ("sort", "first", "skip", "every", "running", "until")), heads


def test_made_numbers_are_not_called_digits() -> None:
    made = [one for one in map(chain, map(Random, range(6000))) if one.ending.key.startswith("state(")]
    changed = [one for one in made if any(stage.change is not None for stage in one.stages)]
    told = [one.ending.verb for one in changed if one.source.unit in ("digit", "divisor", "power", "term", "value")]
    assert any("add the number to" in verb for verb in told)
    assert not any(re.search("(add|subtract) the (digit|divisor|power|term|value) ", verb) for verb in told)


def test_nothing_ends_with_records_or_numbers_that_are_not_exact() -> None:
    for seed in range(400):
        one = chain(Random(seed))
        last = one.stages[-1].kind if one.stages else one.source.kind
        assert not (last == RECORD and one.ending.key == "list")
    made = next(one for one in (chain(Random(seed)) for seed in range(3000)) if one.structure == "numbers > product")
    (name,) = (one.name for one in made.scope.arguments)
    with pytest.raises(ValueError, match=r"is not below 2\^53"):
        Chain.run(made, {name: [10**9, 10**9]})
