"""`octavo bench`: a real check of tiny cases in a process of its own, lines and JSON, exit codes, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.bench import tasks
from octavo.bench.record import BenchError
from octavo.cli import main

CHECK = ["bench", "kernels", "--check-only", "--ops", "experts", "--cases", "cpu chunk tiny", "--out", "found.json"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_check_of_a_real_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    assert main(CHECK) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.split()[:5] == ["right", "experts", "cpu", "chunk", "tiny:"]
    assert last == "written to found.json"
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["finished"]
    assert [(case["op"], case["status"]) for case in found["cases"]] == [("experts", "right")]


@pytest.mark.parametrize("line", [[], ["--json"]])
def test_a_wrong_case_is_an_exit_code_once_all_is_said(
    line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(options: Any, say: Any) -> tasks.Done:
        say("a case")
        return tasks.Done(record={"cases": [1]}, lines=("the end",), error=BenchError("1 of 1 cases"))

    monkeypatch.setattr(tasks, "TASKS", {"kernels": wrong})
    assert main(["bench", "kernels", *line]) == 1
    out, err = capsys.readouterr()
    assert out == ('{"cases": [1]}\n' if line else "a case\nthe end\n")
    assert err == "octavo: error: 1 of 1 cases\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["kernels", "--ops", "nothing"], "ops: 'nothing' is unknown; known are "),
        (["kernels", "--cases", "nothing"], "cases: 'nothing' is unknown; known are "),
        (["report", "--results", "nowhere"], "results: 'nowhere' is no folder"),
    ],
)
def test_bad_input_is_one_line(line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    assert main(["bench", *line]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: {message}")
    assert err.count("\n") == 1


def test_unknown_task_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "everything"]) == 2
    assert "kernels" in capsys.readouterr().err


def test_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["bench", "report", "--results", ".", "--out", "figures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all((tmp_path / path).is_file() for path in found["written"])
    assert found["missing"][0].startswith("no record of kernels")
