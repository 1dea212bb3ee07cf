"""The twelve ratios: each names a case that is there, targets are judged, the page says what was measured."""

from __future__ import annotations

import re
from pathlib import Path

from octavo.bench.headlines import GOALS, headlines
from octavo.bench.ratios import Records
from octavo.bench.selection import all_cases
from tests.bench.toys import outcome, record, sliced, sources

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_twelve() -> None:
    assert sorted({goal.number for goal in GOALS}) == list(range(1, 13))


def test_commands_name_cases_that_are_marked_and_benchmarks_that_are_there() -> None:
    cases = {(case.op, case.name): case for case in all_cases() if case.size == "full"}
    named: set[tuple[int, str]] = set()
    for goal in GOALS:
        kernel = re.search(r'--device (\w+) --ops (\w+) --cases "(.*)"', goal.command)
        if kernel is None:
            [module] = re.findall(r"-m (\S+)", goal.command)
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
            continue
        device, op, name = kernel.groups()
        case = cases[op, name]
        assert device in case.devices
        assert case.headline == goal.number or goal.number == 3  # whose case is that of the first
        named.add((case.headline or 0, name))
    assert named == {(case.headline, case.name) for case in cases.values() if case.headline is not None}


def test_the_peers_that_ratios_are_taken_over_are_there(tmp_path: Path) -> None:
    """Each goal finds its value in a record of its case that has every peer of it, so no name is misspelt."""
    full = [case for case in all_cases() if case.size == "full" and case.headline is not None]
    ratio = {"median": 2.0, "low": 1.0, "high": 3.0}
    timed = [outcome(case.name, op=case.op, peers={peer: {"ratio": ratio} for peer in case.peers}) for case in full]
    records = Records.of(sources(tmp_path, a=record(*timed)))
    silent = {goal.number for goal in GOALS if "bench kernels" in goal.command and isinstance(goal.find(records), str)}
    assert silent == {3}


def test_targets_are_least_or_most() -> None:
    least, most = (next(goal for goal in GOALS if goal.most is side) for side in (False, True))
    assert [least.met(least.limit + by) for by in (-0.01, 0, 0.01)] == [False, True, True]
    assert [most.met(most.limit + by) for by in (-0.01, 0, 0.01)] == [True, True, False]
    assert (least.target[:2], most.target[:2]) == (">=", "<=")


def test_the_page_names_what_was_measured_where_and_what_was_not(tmp_path: Path) -> None:
    records = Records.of(sources(tmp_path, a=sliced(note="by night")))
    page, without = headlines(records)
    assert "| 5 | decode step at 1M over one at 4K (batch 1) | <= 1.25 | 1.50 | no |" in page
    assert "| 9 | decode step over its byte bound (batch 1) | >= 0.4 | 0.40 | yes |" in page
    assert "| `a.json` | `decode.1.share` | 2026-11-26 | NVIDIA H9 | 0123456789ab with changes |" in page
    assert page.endswith("- Note of `a.json`: by night\n")
    assert page.count("| not measured | |") == len(without) == len(GOALS) - 2
    assert without[0].startswith("headline 1, sparse prefill")
    assert f"no record; `{GOALS[0].command}`" in without[0]
