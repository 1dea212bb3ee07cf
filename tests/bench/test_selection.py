"""Which cases a run takes, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.bench import selection
from octavo.bench.record import BenchError
from octavo.bench.selection import Plan, all_cases, key, select
from octavo.config.errors import UsageError
from tests.bench.toys import case

CASES = [
    case("slow"),
    case("goal", headline=3),
    case("gpu", devices=("cuda",), op="halve"),
    case("small", size="tiny", devices=("cuda",)),
]


def names(**plan: Any) -> list[str]:
    return [one.name for one in select(Plan(**({"device": "cpu"} | plan)), CASES)]


def test_full_cases_of_the_device_with_those_of_the_goals_first() -> None:
    assert names() == ["goal", "slow"]
    assert names(device="cuda") == ["gpu"]


def test_tiny_cases_run_everywhere() -> None:
    assert names(size="tiny") == ["small"]
    assert names(size="all") == ["goal", "slow", "small"]
    assert names(size="all", check_only=True) == ["small", "slow", "goal"]


def test_operations_and_names_choose() -> None:
    assert names(device="cuda", size="all", ops=("double",)) == ["small"]
    assert names(names=("slow",)) == ["slow"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"ops": ("dubble",)}, "ops: 'dubble' is unknown; known are double, halve"),
        ({"names": ("none",)}, "cases: 'none' is unknown"),
        ({"ops": ("halve",)}, "no case of size full runs on cpu among those asked for"),
    ],
)
def test_a_choice_without_cases_is_bad_usage(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        names(**plan)


def test_only_full_cases_of_runs_that_time_are_timed() -> None:
    plan = Plan(device="cpu")
    assert plan.times(CASES[0])
    assert not plan.times(CASES[3])
    assert not Plan(device="cpu", check_only=True).times(CASES[0])


def test_all_cases_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    found = all_cases()
    assert len({key(one) for one in found}) == len(found)
    assert ("index_topk", "cpu token tiny", "tiny") in map(key, found)

    class Module:
        cases = staticmethod(lambda: [case(), case()])

    monkeypatch.setattr(selection, "import_module", lambda name: Module)
    with pytest.raises(BenchError, match="two cases are called double one full"):
        all_cases()
