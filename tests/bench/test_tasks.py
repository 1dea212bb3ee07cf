"""What options left out mean, and where a task's record goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.bench import tasks
from octavo.bench.selection import Plan
from octavo.cli.bench import Command
from tests.bench.toys import outcome, record


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, Path | None]]:
    """Runs of one timed case and one wrong one, as they were asked for."""
    asked: list[tuple[Plan, Path | None]] = []

    def run(plan: Plan, out: Path | None, *, each: Any) -> dict[str, Any]:
        asked.append((plan, out))
        cases = [outcome(), outcome("bad", status="wrong", message="error 1")]
        for one in cases:
            each(one)
        return record(*cases)

    monkeypatch.setattr(tasks, "run", run)
    return asked


def test_a_timed_run_takes_full_cases_and_is_recorded(runs: list[tuple[Plan, Path | None]]) -> None:
    said: list[str] = []
    done = tasks.kernels(Command(task="kernels", device="cuda", ops=("a",), cases=("b",), seconds=9.0), said.append)
    plan, out = runs[0]
    assert plan == Plan(device="cuda", ops=("a",), names=("b",), size="full", seconds=9.0)
    assert out == Path("docs/results/kernels-cuda.json")
    assert done.lines == ("written to docs/results/kernels-cuda.json",)
    assert [line.split()[0] for line in said] == ["ok", "wrong"]
    assert "first double bad: wrong, error 1" in str(done.error)


def test_a_check_takes_all_sizes_and_is_recorded_where_it_is_told(runs: list[tuple[Plan, Path | None]]) -> None:
    done = tasks.kernels(Command(task="kernels", check_only=True), lambda line: None)
    assert runs[0] == (Plan(device="cpu", size="all", check_only=True), None)
    assert done.lines == ()
    tasks.kernels(Command(task="kernels", check_only=True, size="tiny", out="a.json"), lambda line: None)
    assert runs[1] == (Plan(device="cpu", size="tiny", check_only=True), Path("a.json"))


def test_report_says_what_it_wrote_and_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "figures"
    done = tasks.draw(Command(task="report", results=str(tmp_path), out=str(out)), lambda line: None)
    assert f"written: {out / 'bytes-per-token-xs.svg'}" in done.lines
    assert [line for line in done.lines if line.startswith("missing: no record of kernels")]
    assert done.error is None
    assert set(done.record) == {"written", "missing"}
