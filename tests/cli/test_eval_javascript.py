"""`octavo eval javascript` on a tiny random model: the page, the JSON, the written report, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers, two drawn."""
    monkeypatch.setattr("octavo.evals.javascript_run.run_problems.__kwdefaults__", {
        "forms": ("complete",), "samples": 2, "max_tokens": 8, "progress": None,
    })  # fmt: skip


def test_json_and_report(story: Path, tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["eval", "javascript", "--count", "2", "--kinds", "complete", "chat", "--out", "report", "--json"]
    assert main(line) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert [(row["form"], row["group"], row["problems"]) for row in found["shares"]] == [
        (form, group, number)
        for form in ("complete", "chat")
        for group, number in (("all", 3), ("known family", 1), ("held-out family", 1), ("composed", 1))
    ]
    assert found["shares"][0]["pass@1"]["right"] == 0
    assert all(len(answer["drawn"]) == 2 for answer in found["answers"])
    assert found["about"]["model"] == "octavo-xs"
    assert json.loads((tmp_path / "report" / "javascript.json").read_text("utf-8")) == found


def test_page_of_a_file(story: Path, tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"task_id": "JavaScript/0", "prompt": "const one = () => {\n", "canonical_solution": "  return 1;\n}\n",
           "test": "console.assert(one() === 1)"}  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    assert main(["eval", "javascript", "--text", "rows.jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| complete | HumanEval-X | 1 | 0.000 (0.000-0.793) |")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--text", "nowhere.jsonl"], "tasks 'nowhere.jsonl' is no file"),
        (["--kinds", "fact"], "unknown kind 'fact' of asking for JavaScript"),
        (["--count", "0"], "count is 0"),
    ],
)
def test_bad_input_is_one_line(
    story: Path, line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert main(["eval", "javascript", *line]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: {message}")
    assert err.count("\n") == 1
