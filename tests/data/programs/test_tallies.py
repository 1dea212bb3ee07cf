"""Endings that keep count as they go."""

from __future__ import annotations

from random import Random

from octavo.data.programs import tallies
from octavo.data.programs.piece import NUMBER, RECORD, WORD, Scope

FIELDS = {"name": "person", "age": "age", "city": "place"}
ROWS = [{"name": n, "age": a, "city": c} for n, a, c in (("Ann", 30, "Rome"), ("Bo", 20, "Oslo"), ("Cy", 30, "Rome"))]


def all_of(maker, kind: str, count: int = 80) -> dict:
    fields = FIELDS if kind == RECORD else {}
    return {one.key: one for seed in range(count) for one in (maker(Scope(draw=Random(seed)), kind, fields, "one"),)}


def test_counts_and_groups() -> None:
    words = ["ox", "ant", "ox"]
    assert all_of(tallies.frequencies, WORD)["frequencies"].run(words, {}) == {"ox": 2, "ant": 1}
    assert all_of(tallies.grouped, WORD)["group first"].run(words, {}) == {"o": ["ox", "ox"], "a": ["ant"]}
    assert all_of(tallies.longest, WORD)["longest"].run(words, {}) == "ant"
    assert all_of(tallies.different_or_last, WORD)["different"].run(words, {}) == 2
    assert all_of(tallies.joined, WORD)["join bare"].run(words, {}) == "oxantox"


def test_records() -> None:
    assert {"Rome": 60, "Oslo": 20} in [one.run(ROWS, {}) for one in all_of(tallies.total_by, RECORD).values()]
    assert all_of(tallies.best_record, RECORD)["best smallest"].run(ROWS, {}) == "Bo"
    assert all_of(tallies.best_record, RECORD)["best largest"].run([], {}) is None


def test_machines_and_stretches() -> None:
    assert all_of(tallies.streak, NUMBER)["streak(even)"].run([2, 4, 3, 6], {}) == 2
    machines = all_of(tallies.state, NUMBER, 4000)
    gains = machines["state(even,gain,zero)"]
    begin = gains.run([], {})
    assert gains.run([2, 4], {}) == begin + 6
    assert gains.run([2, 3, 8], {}) == 8
    floored = [one for key, one in machines.items() if key.endswith("floor)") and "lose" in key and "up" not in key]
    assert floored
    assert all(one.run([40, 41, 40, 41], {}) >= 0 for one in floored)
