"""Stages: what they do to a list, as single ones and as those that are told by their key."""

from __future__ import annotations

from random import Random

from octavo.data.programs.piece import NUMBER, RECORD, WORD, Scope
from octavo.data.programs.rules import rule
from octavo.data.programs.stages import Stage, kept, stage

LIST = [4, 4, -2, 9, 3]


def drawn(kind: str, fields: dict[str, str] | None = None) -> dict[str, Stage]:
    made = (stage(Scope(draw=Random(seed)), kind, fields or {}) for seed in range(600))
    return {one.key: one for one in made}


def test_lists_of_numbers() -> None:
    by_key = drawn(NUMBER)
    wanted = {
        "steps": [0, -6, 11, -6], "gaps": [0, 6, 11, 6], "running sums": [4, 8, 6, 15, 18],
        "running tops": [4, 4, 4, 9, 9], "rising": [4, 9], "above mean": [4, 4, 9], "times place": [4, 8, -6, 36, 15],
        "reverse": [3, 9, -2, 4, 4], "sort up": [-2, 3, 4, 4, 9],
        "distinct": [4, -2, 9, 3], "runs to one": [4, -2, 9, 3],
        "skip last": [4, 4, -2, 9], "map(square)": [16, 16, 4, 81, 9], "keep(even)": [4, 4, -2], "drop(even)": [9, 3],
    }  # fmt: skip
    assert {key: by_key[key].run(LIST, {}) for key in wanted} == wanted
    assert len(by_key) > 90
    assert all("{}" in one.noun for one in by_key.values())


def test_what_comes_out_is_told() -> None:
    assert drawn(WORD)["map(length)"].kind == NUMBER
    fields = {"name": "person", "age": "age"}
    made = [stage(Scope(draw=Random(seed)), RECORD, fields) for seed in range(60)]
    assert {one.kind for one in made if one.key == "map(field)"} == {NUMBER, WORD}
    assert {one.kind for one in made if one.key != "map(field)"} == {RECORD}


def test_keeping_and_dropping_are_opposites() -> None:
    for seed in range(40):
        scope = Scope(draw=Random(seed))
        test = rule(scope, NUMBER)
        made = kept(scope, NUMBER, test)
        assert made.rule is not None
        assert made.run(LIST, {}) == [v for v in LIST if made.rule.run(v, {})]
        assert [v for v in LIST if test.run(v, {})] == (
            made.run(LIST, {}) if made.key.startswith("keep") else [v for v in LIST if v not in made.run(LIST, {})]
        )
